"""The inner loop of rules between pods, compiled: what pods that come and go change for one profile.

The arrays that all of this reads and writes are those of `constraints.Constraints`, and of `topology.Topologies`. Like
`kernel`, all of it is in one file, for the sake of numba's cache.
"""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.scoring.kernel import compiled
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, IntArray, Rows

_INF = float("inf")
_FEW = 16
# What a constraint is; see `constraints`.
APART, TOGETHER, SPREAD, SPREAD_ANYWAY, LIKING = range(5)
# What stands of it in `specs`. `EXTENT`: what its value is added to.
KIND, KEY, TALLY, OFFSET, DOMAINS, EXTENT, MAX_SKEW, ITSELF, MIN_DOMAINS = range(9)
# To the costs of rows, or of whole blocks; or to what is liked of each row, and is the same for all of its block.
IN_ROWS, IN_BLOCKS, LIKED_IN_BLOCKS = range(3)
# What stands of it in `numbers`.
WEIGHT, MISSING = range(2)

_TABLE = "int64[:, ::1]"
_SPECS = f"{_TABLE}, float64[:, ::1]"
_TOPOLOGIES = f"{_TABLE}, {_TABLE}, {_TABLE}, {_TABLE}, {_TABLE}"
_COUNTS = f"{_TABLE}, int64[::1], int64[::1], float64[::1]"
_LEVELS = f"{_TABLE}, {_TABLE}, {_TABLE}, {_TABLE}"
_LIKES = "float64, float64"
_MIXED = "float64[::1], float64[::1], float64[::1], boolean[::1]"
_GROUP = "int64[::1], boolean[::1], boolean[::1]"


@compiled(f"int64({_TABLE}, {_TABLE}, {_TABLE}, {_TABLE}, int64[::1], {_TABLE}, {_TABLE}, int64[::1], {_TABLE})")
def _count(
    changes: IntArray,
    specs: IntArray,
    cluster: Rows,
    where: Rows,
    sums: IntArray,
    low: IntArray,
    at_low: IntArray,
    there: IntArray,
    marked: IntArray,
) -> int:
    """Pods came to rows, or went. Marks the constraints and domains where they count; returns how many it marked.

    Where the emptiest domains are no longer known, `at_low` is -1.
    """
    marks = 0
    for change in range(len(changes)):
        tally, row, pods = changes[change]
        for item in range(len(specs)):
            domain = where[item, row]
            if specs[item, TALLY] != tally or domain < 0:
                continue
            place, kind, home = specs[item, OFFSET] + domain, specs[item, KIND], cluster[specs[item, KEY], domain]
            before, now = sums[place], sums[place] + pods
            sums[place] = now
            if kind == TOGETHER:
                there[home] += (now > 0) - (before > 0)
            elif kind in (SPREAD, SPREAD_ANYWAY) and at_low[item, home] >= 0:
                at_low[item, home] -= before == low[item, home]
                if now < low[item, home]:
                    low[item, home], at_low[item, home] = now, 1
                elif now == low[item, home]:
                    at_low[item, home] += 1
                elif not at_low[item, home]:
                    at_low[item, home] = -1
            marked[marks, 0], marked[marks, 1] = item, domain
            marks += 1
    return marks


@compiled(f"void(int64, {_TABLE}, {_TABLE}, int64[::1], int64[::1], {_TABLE}, {_TABLE}, {_TABLE}, int64[::1])")
def _survey(
    item: int,
    specs: IntArray,
    cluster: Rows,
    nodes: IntArray,
    sums: IntArray,
    low: IntArray,
    at_low: IntArray,
    eligible: IntArray,
    there: IntArray,
) -> None:
    """Looks at all domains of a constraint: which are the emptiest of each cluster, of how many; where anyone is."""
    low[item], at_low[item], eligible[item] = 0, 0, 0
    for domain in range(specs[item, DOMAINS]):
        place = specs[item, OFFSET] + domain
        home, pods = cluster[specs[item, KEY], domain], sums[place]
        if specs[item, KIND] == TOGETHER:
            there[home] += pods > 0
        if not nodes[place]:
            continue
        eligible[item, home] += 1
        if not at_low[item, home] or pods < low[item, home]:
            low[item, home], at_low[item, home] = pods, 1
        elif pods == low[item, home]:
            at_low[item, home] += 1


@compiled(f"boolean({_TABLE}, {_TABLE}, {_TABLE}, {_TABLE}, {_GROUP}, boolean[::1])")
def _settle_levels(
    specs: IntArray,
    low: IntArray,
    eligible: IntArray,
    least: IntArray,
    there: IntArray,
    own: BoolArray,
    first: BoolArray,
    moved: BoolArray,
) -> bool:
    """What holds for whole clusters: says of which constraints all domains may be worth something else (`moved`)."""
    any_moved, group_moved = False, False
    for home in range(len(first)):
        now = not there[home] and own[home]
        if now != first[home]:
            first[home], group_moved = now, True
    for item in range(len(specs)):
        kind = specs[item, KIND]
        moved[item] = group_moved and kind == TOGETHER
        if kind in (SPREAD, SPREAD_ANYWAY):
            for home in range(len(first)):
                count = eligible[item, home]
                level = low[item, home] if count and count >= specs[item, MIN_DOMAINS] else 0
                if level != least[item, home]:
                    least[item, home], moved[item] = level, True
        any_moved = any_moved or moved[item]
    return any_moved


@compiled(f"float64(int64, int64, {_SPECS}, {_TABLE}, int64[::1], {_TABLE}, boolean[::1])")
def _value(
    item: int,
    domain: int,
    specs: IntArray,
    numbers: FloatArray,
    cluster: Rows,
    sums: IntArray,
    least: IntArray,
    first: BoolArray,
) -> float:
    """What a constraint says of a domain: a cost, infinite where it refuses; of what is liked, what it weighs there."""
    kind, pods, home = specs[item, KIND], sums[specs[item, OFFSET] + domain], cluster[specs[item, KEY], domain]
    if kind == APART:
        return _INF if pods > 0 else 0.0
    if kind == TOGETHER:
        return 0.0 if pods > 0 or first[home] else _INF
    if kind == LIKING:
        return float(pods * numbers[item, WEIGHT])
    above = pods - least[item, home]
    if kind == SPREAD:
        return _INF if above + specs[item, ITSELF] > specs[item, MAX_SKEW] else 0.0
    skew = max(above, 0)
    return float(numbers[item, WEIGHT] * (skew / (skew + specs[item, MAX_SKEW])))


@compiled(f"void(int64[::1], int64, {_SPECS}, {_TABLE}, float64[::1], float64[::1], float64[::1])")
def _add_up(
    positions: Rows,
    extent: int,
    specs: IntArray,
    numbers: FloatArray,
    domains: Rows,
    values: FloatArray,
    total: FloatArray,
    liking: FloatArray,
) -> None:
    """Adds what the constraints of this extent say of rows or blocks, whose domains are `domains[:, positions]`."""
    for item in range(len(specs)):
        if specs[item, EXTENT] != extent:
            continue
        key, offset, missing = specs[item, KEY], specs[item, OFFSET], numbers[item, MISSING]
        added = liking if specs[item, KIND] == LIKING else total
        for index in range(len(positions)):
            domain = domains[key, positions[index]]
            added[index] += missing if domain < 0 else values[offset + domain]


@compiled("float64(float64, float64, float64)")
def _cost_of(liking: float, liked: float, scale: float) -> float:
    return liked * (0.5 - 0.5 * (liking / (abs(liking) + scale)))


@compiled(f"void({_SPECS}, {_TABLE}, float64[::1], {_LIKES}, float64[::1])")
def _write_blocks(
    specs: IntArray,
    numbers: FloatArray,
    of_block: Rows,
    values: FloatArray,
    liked: float,
    scale: float,
    blocks: FloatArray,
) -> None:
    liking, any_liking = np.zeros(len(blocks), np.float64), False
    blocks[:] = 0.0
    _add_up(np.arange(len(blocks)), IN_BLOCKS, specs, numbers, of_block, values, blocks, liking)
    for item in range(len(specs)):
        any_liking = any_liking or (specs[item, KIND] == LIKING and specs[item, EXTENT] == IN_BLOCKS)
    for block in range(len(blocks) if any_liking else 0):
        blocks[block] += _cost_of(liking[block], liked, scale)


@compiled(f"void({_SPECS}, {_TABLE}, float64[::1], {_LIKES}, float64[::1], {_MIXED})")
def _write_liked_blocks(
    specs: IntArray,
    numbers: FloatArray,
    of_block: Rows,
    values: FloatArray,
    liked: float,
    scale: float,
    part: FloatArray,
    plain: FloatArray,
    likings: FloatArray,
    wide: FloatArray,
    stirred: BoolArray,
) -> None:
    """Where all rows of a block are liked more or less than before, their parts anew."""
    count = len(wide)
    now = np.zeros(count, np.float64)
    _add_up(np.arange(count), LIKED_IN_BLOCKS, specs, numbers, of_block, values, now, now)
    for block in range(count):
        if now[block] == wide[block]:
            continue
        wide[block], stirred[block] = now[block], True
        for row in range(block * BLOCK, (block + 1) * BLOCK):
            part[row] = plain[row] + _cost_of(likings[row] + wide[block], liked, scale)


@compiled(f"void(int64[::1], {_SPECS}, {_TABLE}, float64[::1], {_LIKES}, float64[::1], {_MIXED})")
def _write_rows(
    rows: Rows,
    specs: IntArray,
    numbers: FloatArray,
    of_row: Rows,
    values: FloatArray,
    liked: float,
    scale: float,
    part: FloatArray,
    plain: FloatArray,
    likings: FloatArray,
    wide: FloatArray,
    stirred: BoolArray,  # noqa: ARG001 - of those that are the same for all who write parts
) -> None:
    count, any_liking = len(rows), False
    total, liking = np.zeros(count, np.float64), np.zeros(count, np.float64)
    _add_up(rows, IN_ROWS, specs, numbers, of_row, values, total, liking)
    for item in range(len(specs)):
        any_liking = any_liking or (specs[item, KIND] == LIKING and specs[item, EXTENT] != IN_BLOCKS)
    for index in range(count):
        row, above = rows[index], 0.0
        if len(wide):
            plain[row], likings[row], above = total[index], liking[index], wide[row // BLOCK]
        part[row] = total[index]
        if any_liking:
            part[row] += _cost_of(liking[index] + above, liked, scale)


@compiled(
    f"int64({_SPECS}, {_TABLE}, int64[::1], float64[::1], {_TABLE}, boolean[::1], boolean[::1], {_TABLE}, int64, "
    f"{_TABLE})"
)
def _revalue(
    specs: IntArray,
    numbers: FloatArray,
    cluster: Rows,
    sums: IntArray,
    values: FloatArray,
    least: IntArray,
    first: BoolArray,
    moved: BoolArray,
    marked: IntArray,
    marks: int,
    changed: IntArray,
) -> int:
    """Values of domains anew: of those that are marked, and all of constraints that are `moved`. Writes which of them
    are others now (`changed`), and returns how many.
    """
    count = 0
    for item in range(len(specs)):
        for index in range(specs[item, DOMAINS] if moved[item] else marks):
            domain = index
            if not moved[item]:
                if marked[index, 0] != item:
                    continue
                domain = marked[index, 1]
            value = _value(item, domain, specs, numbers, cluster, sums, least, first)
            if value != values[specs[item, OFFSET] + domain]:
                values[specs[item, OFFSET] + domain] = value
                changed[count, 0], changed[count, 1] = item, domain
                count += 1
    return count


@compiled(f"int64({_TABLE}, int64, {_TABLE})")
def _keep_rowwise(changed: IntArray, count: int, specs: IntArray) -> int:
    """Turns `changed` into label keys and domains of those whose rows are to be computed anew; returns how many.

    Several constraints may have said the same of a domain. Where few are changed none of them is there twice.
    """
    kept = 0
    for index in range(count):
        item, domain = changed[index]
        key, known = specs[item, KEY], specs[item, EXTENT] != IN_ROWS
        for other in range(kept if count <= _FEW else 0):
            known = known or (changed[other, 0] == key and changed[other, 1] == domain)
        if not known:
            changed[kept, 0], changed[kept, 1] = key, domain
            kept += 1
    return kept


@compiled(f"int64[::1](int64[::1], int64[::1], {_TABLE}, int64, {_TABLE}, {_TABLE}, int64)")
def _gather(facts: Rows, usage: Rows, domains: IntArray, count: int, first_row: Rows, after: Rows, rows: int) -> Rows:
    """`usage`, `facts`, and the rows of the first `count` of these domains of label keys, each row once."""
    known, more = len(usage) + len(facts), 0
    for index in range(count):
        key, domain = domains[index]
        row = first_row[key, domain]
        while row >= 0:
            more += 1
            row = after[key, row]
    found, seen = np.empty(known + more, np.int64), np.zeros(rows if more else 0, np.bool_)
    found[: len(usage)] = usage
    found[len(usage) : known] = facts
    end = known
    for index in range(count):
        key, domain = domains[index]
        row = first_row[key, domain]
        while row >= 0:
            if not seen[row]:
                seen[row] = True
                found[end] = row
                end += 1
            row = after[key, row]
    return found[:end]


@compiled(
    f"int64[::1]({_TABLE}, int64[::1], int64[::1], boolean, {_SPECS}, {_TOPOLOGIES}, {_COUNTS}, {_LEVELS}, {_GROUP}, "
    f"{_LIKES}, float64[::1], float64[::1], {_MIXED})"
)
def settle(
    changes: IntArray,
    facts: Rows,
    usage: Rows,
    anew: bool,
    specs: IntArray,
    numbers: FloatArray,
    of_row: Rows,
    of_block: Rows,
    cluster: Rows,
    first_row: Rows,
    after: Rows,
    where: Rows,
    nodes: IntArray,
    sums: IntArray,
    values: FloatArray,
    low: IntArray,
    at_low: IntArray,
    eligible: IntArray,
    least: IntArray,
    there: IntArray,
    own: BoolArray,
    first: BoolArray,
    liked: float,
    scale: float,
    blocks: FloatArray,
    part: FloatArray,
    plain: FloatArray,
    likings: FloatArray,
    wide: FloatArray,
    stirred: BoolArray,
) -> Rows:
    """Brings `part` of each row and `blocks` of each block up to date with what happened; returns the rows whose costs
    are to be computed anew, which may repeat: `usage`, `facts`, and those whose part is another.

    Where rows are liked for reasons of their own and for those of their whole block, the part is made of two numbers of
    the row (`plain` costs, and `likings`) and one of the block (`wide`), so that where only the latter is another no
    rows are returned: `stirred` says of which blocks.

    `changes` are pods that came or went: their tally, their row, how many. `facts` are rows of which anything else
    changed. `anew`: any number may be another.
    """
    marked = np.empty((len(changes) * len(specs), 2), np.int64)
    marks = _count(changes, specs, cluster, where, sums, low, at_low, there, marked)
    if anew:
        there[:] = 0
    for item in range(len(specs)):
        if anew or (at_low[item] < 0).any():
            _survey(item, specs, cluster, nodes, sums, low, at_low, eligible, there)
    moved, most = np.zeros(len(specs), np.bool_), marks
    if _settle_levels(specs, low, eligible, least, there, own, first, moved) or anew:
        moved[:] = moved | anew
        most += specs[:, DOMAINS].sum()
    changed = np.empty((most, 2), np.int64)
    count = _revalue(specs, numbers, cluster, sums, values, least, first, moved, marked, marks, changed)
    any_block, any_liked_block = anew, anew
    for index in range(count):
        extent = specs[changed[index, 0], EXTENT]
        any_block, any_liked_block = any_block or extent == IN_BLOCKS, any_liked_block or extent == LIKED_IN_BLOCKS
    if any_block:
        _write_blocks(specs, numbers, of_block, values, liked, scale, blocks)
    if any_liked_block:
        _write_liked_blocks(specs, numbers, of_block, values, liked, scale, part, plain, likings, wide, stirred)
    count = _keep_rowwise(changed, count, specs)
    found = _gather(facts, usage, changed, count, first_row, after, len(part))
    behind = found[len(usage) :]
    _write_rows(behind, specs, numbers, of_row, values, liked, scale, part, plain, likings, wide, stirred)
    return found
