"""The page: what the measurements say, as Markdown tables. Reads JSON, imports no JAX."""

from collections.abc import Mapping

from ..typesetting import Table


def render(measured: Mapping[str, dict], machine: Mapping[str, str]) -> str:
    """`README.md` of the folder of results, from what each part printed."""
    writers = {
        "throughput": throughput,
        "growth": growth,
        "compiling": compiling,
        "shares": shares,
        "scaling": scaling,
        "processes": processes,
    }
    facts = "\n".join(f"- {name}: {text}" for name, text in machine.items())
    parts = [writers[name](content) for name, content in measured.items() if name in writers]
    head = (
        "# Speed\n\nMade by `python -m benchmarks.speed`. Rates drift with the machine and what else runs on it: read ratios, "
        "which are of medians of rounds taken in turns in one process.\n\n"
    )
    return head + facts + "\n\n" + "\n\n".join(parts) + "\n"


def _table(name: str, caption: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return f"## {name}\n\n{caption}\n\n{Table(name, '', columns, rows).to_markdown()}".rstrip()


def throughput(content: dict) -> str:
    """Rates, and the suite's as a multiple of every other."""
    rows = []
    for row in content["rows"]:
        rates = {name: cell["rate"] for name, cell in row["rates"].items()}
        batches = [rate for name, rate in rates.items() if name.startswith("naive,")]
        torch = [rate for name, rate in rates.items() if name.startswith("PyTorch")]
        suite, hand, complete, naive = (rates[name] for name in ("suite", "by hand", "by hand, all sums", "naive"))
        rows.append(
            (
                row["task"],
                f"{row['replicates']:,}",
                *(f"{rate:,.0f}" for rate in (naive, max(batches), hand, complete, suite)),
                f"{suite / naive:.1f}×",
                f"{suite / max([naive, *batches]):.1f}×",
                f"{suite / max(torch):.1f}×" if torch else "–",
                *(f"{100 * suite / rate:.0f} %" for rate in (hand, complete)),
            )
        )
    columns = (
        "task",
        "replicates",
        "naive /s",
        "naive, best batch /s",
        "by hand /s",
        "by hand, all sums /s",
        "suite /s",
    )
    ratios = ("suite / naive", "suite / best batch", "suite / PyTorch", "suite / by hand", "suite / by hand, all sums")
    caption = (
        f"Replicates a second on {content['cores']} cores. *Naive* keeps all gradients of one `jit(vmap(grad))` and takes NumPy's "
        "moments, over all keys at once or at the fastest of three batches; *by hand* is a streaming loop of closed expressions that "
        "adds up first and second powers only, over as many replicates as the suite, and with *all sums* the four powers and three "
        "scalars of each replicate that the suite's intervals rest on; *PyTorch* is batched by hand at the faster of two batches. "
        "The suite's time is that of `measure`, merging on the host included: what it is short of *by hand* is the price of intervals, and "
        "what it is short of *all sums* that of being general."
    )
    return _table("Throughput", caption, (*columns, *ratios), rows)


def growth(content: dict) -> str:
    """Memory and time against the number of replicates."""
    rows = [
        (
            f"{row['replicates']:,}",
            f"{row['seconds']:.2f}",
            f"{1e6 * row['seconds'] / row['replicates']:.2f}",
            f"{row['megabytes']:.0f}",
            f"{row['megabytes_at_rest']:.0f}",
        )
        for row in content["rows"]
    ]
    caption = (
        "T1, each in a process of its own. Memory is the largest resident set while the cell runs, above what the process held once its "
        "program was compiled."
    )
    columns = ("replicates", "seconds", "µs a replicate", "MB more", "MB at rest")
    return _table("Memory and time", caption, columns, rows)


def compiling(content: dict) -> str:
    """Wall time of suites, cold, warm and naive."""
    rows = []
    for row in content["rows"]:
        naive, compiled, scaled = row["naive"], row["compile_seconds"], row["naive"]["scaled"]
        rows.append(
            (
                row["suite"],
                str(naive["cells"]),
                str(row["programs"]),
                f"{compiled['median']:.2f}",
                f"{row['cold']:.0f}",
                f"{row['warm']:.0f}",
                f"{scaled:.0f}",
                f"{row['cold'] / scaled:.2f}",
                f"{row['warm'] / scaled:.2f}",
            )
        )
    timed = ", ".join(f"{row['naive']['timed']} of {row['suite']}" for row in content["rows"])
    caption = (
        "Wall seconds of a whole suite, start-up, compilation, truth, measurement and verdicts together, with an empty cache of "
        "programs (cold) and with that which it left (warm), beside one naive `jit(vmap(estimate))` for each cell that fits, whose "
        f"gradients are kept and whose moments are NumPy's, without truth, warm-up or interval. The naive way was timed on {timed}, and "
        "scaled to all cells. Compile seconds are of one program of the suite, which serves up to eight estimators of a problem, with as "
        "many compiled at a time as there are cores; warm, "
        f"{sum(row['compiled_when_warm'] for row in content['rows'])} were compiled anew."
    )
    columns = (
        "suite",
        "cells",
        "programs",
        "s to compile one",
        "cold",
        "warm",
        "naive",
        "cold / naive",
        "warm / naive",
    )
    return _table("Compile time", caption, columns, rows)


def shares(content: dict) -> str:
    """Where the time goes, stage by stage."""
    stages = list(content["rows"][0]["microseconds"])
    rows = []
    for row in content["rows"]:
        times = [row["microseconds"][stage] for stage in stages]
        steps = [times[0], *(max(b - a, 0) for a, b in zip(times, times[1:], strict=False))]
        rows.append((row["task"], f"{times[-1]:.2f}", *(f"{100 * step / times[-1]:.0f} %" for step in steps)))
    caption = (
        "Microseconds of one replicate on one core, and what each stage adds: programs that stop after a stage, timed in turns. A stage "
        "that costs less than the noise of that difference is 0 %."
    )
    return _table("Where the time goes", caption, ("task", "µs", *stages), rows)


def scaling(content: dict) -> str:
    """Weak scaling over forced devices, and what it says of many."""
    first = content["rows"][0]
    rows = [
        (
            str(row["devices"]),
            f"{row['rate']:,.0f}",
            f"{row['rate'] / first['rate']:.2f}",
            f"{1e6 * row['seconds_of_a_small_call']:.0f}",
        )
        for row in content["rows"]
    ]
    seconds = first["replicates_of_a_call_and_device"] / first["rate"]
    kilobytes = first["bytes_of_a_call_and_device"] / 1024
    many = 1000 * first["bytes_of_a_call_and_device"] / seconds / 1e9
    text = (
        "T1, a million replicates for each device; the process has a core for each forced device, as long as there are enough. The last "
        "column is a call of one chunk on each device: dispatch, and the way back."
    )
    merge = first["seconds_of_a_merge"]
    closing = (
        f"\n\n**At a thousand devices.** A call computes {first['replicates_of_a_call_and_device']:,} replicates on a device in "
        f"{seconds:.3f} s at the rate of one device here, and hands {kilobytes:.0f} kB to its host, which adds them to its sums in "
        f"{1e3 * merge:.1f} ms while the device is at the next call. Devices exchange nothing while they compute. So the thread of one "
        f"process keeps up with {seconds / merge:.0f} devices of this speed, and a thousand on one host ({many:.1f} GB a second) would "
        "wait for it: they belong to processes, as launchers start them, each of which merges its own, and only the sums "
        f"({first['bytes_of_the_sums'] / 1024:.0f} kB here, whatever the number of replicates) cross the network, once a cell. With eight "
        "devices to a process, a thousand devices are 125 such messages for process 0 to add up. What remains serial is that sum, and "
        "the compilation, which every process makes or finds in a shared cache; a cell has to run for longer than these before more "
        "devices make it faster."
    )
    columns = ("devices", "replicates /s", "of one device", "µs of a small call")
    return _table("Devices", text, columns, rows) + closing


def processes(content: dict) -> str:
    """Scaling over processes."""
    first = content["rows"][0]
    rows = [
        (
            str(row["processes"]),
            *(text for way in ("weak", "strong") for text in (f"{row[way]:,.0f}", f"{row[way] / first[way]:.2f}")),
        )
        for row in content["rows"]
    ]
    caption = (
        f"T1 in processes of one device each that share a cell and talk on loopback, on {content['cores']} cores: with "
        f"{content['replicates']:,} replicates for each process (weak) and for all together (strong). Start-up, compilation and the one "
        "exchange of sums at the end are not in it."
    )
    columns = ("processes", "weak /s", "of one process", "strong /s", "of one process")
    return _table("Processes", caption, columns, rows)
