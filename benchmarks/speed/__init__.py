"""How fast the harness is: beside what a user writes, beside a loop written by hand, and against the size of the work.

    python -m benchmarks.speed --out results/speed

`tasks` are the four pieces of work, `naive` and `bare` write each out twice more, and every other module measures one thing and prints
it as JSON; `__main__` runs them in processes of their own and makes one page of it. Rates drift with the machine, so what counts
are ratios of medians, taken in turns within one process.
"""
