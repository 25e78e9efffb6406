"""Tables of two classes, for logistic regression: small enough to travel with the package.

Features are those of the source, not standardised and without a column of ones: what a problem makes of them is its own
business.
"""

from . import DATASETS, LabelledTable, read_packaged

SHA256 = {
    "breast-cancer": "e326f813210f4f2d5dc66f2c34412f8e6b17b2e0111aee92c4167d5eea7657bc",
    "german": "18e67478560acb1f5dc3e20b04c9017a3424834f7ff5b13551eff857bfaac314",
    "australian": "c7c3fd9cf9082368bd70db07b4c0837facd5aee8331b0089693a00a1ad5130e5",
    "ionosphere": "a24e76ccf0c58880235816d0c9bd790f76c0b9703ca7ca43dab786a7e8ebc7ef",
    "sonar": "8e3882d05470947b43741ea1c7d529ef40770d5e8de1ef10de5a0749acb574d2",
}


def read(name: str) -> LabelledTable:
    """The table in the package's file for `name`."""
    arrays = read_packaged(f"{name}.npz", SHA256[name])
    return LabelledTable(arrays["features"], arrays["labels"])


@DATASETS.register("breast-cancer")
def breast_cancer() -> LabelledTable:
    """Breast tumours: 569 rows of 30 measurements of cell nuclei, 212 malignant (0) and 357 benign (1).

    Licensed under CC BY 4.0: see the NOTICE file.

    **References:** Wolberg, Mangasarian, Street and Street, Breast cancer Wisconsin (diagnostic), UCI Machine Learning
    Repository, 1993, doi:10.24432/C5DW2B.
    """
    return read("breast-cancer")


@DATASETS.register("german")
def german() -> LabelledTable:
    """Applications for credit: 1000 rows of 24 numbers, 700 good (0) and 300 bad (1) risks.

    Licensed under CC BY 4.0: see the NOTICE file.

    **References:** Hofmann, Statlog (German credit data), the numeric version, UCI Machine Learning Repository, 1994,
    doi:10.24432/C5NC77.
    """
    return read("german")


@DATASETS.register("australian")
def australian() -> LabelledTable:
    """Applications for credit: 690 rows of 14 disguised numbers, 383 of class `-` (0) and 307 of class `+` (1).

    Licensed under CC BY 4.0: see the NOTICE file.

    **References:** Quinlan, Statlog (Australian credit approval), UCI Machine Learning Repository, 1987,
    doi:10.24432/C59012.
    """
    return read("australian")


@DATASETS.register("ionosphere")
def ionosphere() -> LabelledTable:
    """Radar returns: 351 rows of 34 numbers, of which the second is always zero; 126 bad (0) and 225 good (1).

    Licensed under CC BY 4.0: see the NOTICE file.

    **References:** Sigillito, Wing, Hutton and Baker, Ionosphere, UCI Machine Learning Repository, 1989,
    doi:10.24432/C5W01B.
    """
    return read("ionosphere")


@DATASETS.register("sonar")
def sonar() -> LabelledTable:
    """Sonar returns: 208 rows of 60 numbers, 97 of rocks (0) and 111 of mines (1), in the order of the classes.

    Licensed under CC BY 4.0: see the NOTICE file.

    **References:** Sejnowski and Gorman, Connectionist bench (sonar, mines vs. rocks), UCI Machine Learning Repository,
    1988, doi:10.24432/C5T01Q.
    """
    return read("sonar")
