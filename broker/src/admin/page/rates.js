// What happened between two states of a broker. Rates are per second, sizes bytes, times microseconds.

/** A pause that is longer than this is no interval: a tab that was hidden, a machine that slept. */
const INTERVAL_S_MAX = 15;

/** Moments of the past that are kept. */
const MOMENTS_MAX = 300;

/** The rows of a table as objects, by its columns. */
function rows(table) {
  const { columns } = table;
  return table.rows.map((values) => {
    const row = {};
    for (let at = 0; at < columns.length; at += 1) row[columns[at]] = values[at];
    return row;
  });
}

/** The busiest partitions with their rates, which the broker has counted itself since it was asked before. */
function busiest({ over_us: over, partitions }) {
  const busy = rows(partitions);
  for (const row of busy) withTraffic(row, null, over / 1e6);
  return { rows: busy, leftOut: partitions.left_out };
}

/** A summary with its tables opened. */
export function opened(summary) {
  const parts = (of) => of && { name: of.name, rows: rows(of.partitions), leftOut: of.partitions.left_out };
  return {
    ...summary,
    topics: rows(summary.topics),
    topicsLeftOut: summary.topics.left_out,
    groups: rows(summary.groups),
    groupsLeftOut: summary.groups.left_out,
    faulty: rows(summary.faulty),
    faultyLeftOut: summary.faulty.left_out,
    busiest: summary.busiest && busiest(summary.busiest),
    topic: parts(summary.topic),
    group: parts(summary.group),
  };
}

/** What came between two counts by steps. */
function since(before, after) {
  const old = new Map(before ? before.steps : []);
  const steps = (after ? after.steps : []).map(([upto, count]) => [upto, count - (old.get(upto) ?? 0)]);
  return steps.filter(([, count]) => count > 0);
}

/** The step that this share of all values does not exceed; null without values. */
function quantile(steps, share) {
  const wanted = Math.max(1, Math.ceil(steps.reduce((sum, [, count]) => sum + count, 0) * share));
  let seen = 0;
  for (const [upto, count] of steps) {
    seen += count;
    if (seen >= wanted) return upto;
  }
  return null;
}

/** Steps of several counts as those of one. */
function merged(all) {
  const sums = new Map();
  for (const [upto, count] of all.flat()) sums.set(upto, (sums.get(upto) ?? 0) + count);
  return [...sums].sort(([one], [other]) => one - other);
}

/** How much a counter grew per second. What was made anew counts from nothing. */
const growth = (before, after, seconds) => Math.max(0, after - (before ?? 0)) / seconds;

/** Adds the rates of a row's traffic to it. Without an interval there are none. */
function withTraffic(row, before, seconds) {
  const of = (name) => (seconds === null ? null : growth(before?.[name], row[name], seconds));
  row.recordsIn = of("records_in");
  row.bytesIn = of("bytes_in");
  row.recordsOut = of("records_out");
  row.bytesOut = of("bytes_out");
  return row;
}

/**
 * Adds to each row what it does compared with the row of the same key before. Rows hardly ever come or go: they are
 * looked for where they were, and by their keys only where they are not there any more.
 */
function compared(after, before, keyOf, change) {
  const old = before ?? [];
  let byKey = null;
  return after.map((row, at) => {
    const key = keyOf(row);
    if (old.length === 0) return change(row, undefined);
    if (at < old.length && keyOf(old[at]) === key) return change(row, old[at]);
    byKey ??= new Map(old.map((row) => [keyOf(row), row]));
    return change(row, byKey.get(key));
  });
}

/** A signed change per second; null where it is not known. */
const change = (before, after, seconds) =>
  seconds === null || typeof before !== "number" || typeof after !== "number" ? null : (after - before) / seconds;

function coreRates(core, before, seconds) {
  const produces = since(before?.produce, core.produce);
  const flushes = since(before?.flush, core.flush);
  const of = (name) => (seconds === null ? null : growth(before?.[name], core[name], seconds));
  const cpu = of("cpu_us");
  return {
    ...core,
    busy: cpu === null ? null : Math.min(1, cpu / 1e6),
    bytesIn: of("received_bytes"),
    bytesOut: of("sent_bytes"),
    requestRate: of("requests"),
    errorRate: of("errors"),
    stallRate: of("stalls"),
    produces: seconds === null ? [] : produces,
    flushes: seconds === null ? [] : flushes,
    memoryUsed: core.memory.reduce((sum, [, used]) => sum + used, 0),
  };
}

/** What compaction has done in stores, together. */
function compactionOf(stores) {
  const sum = (name) => stores.reduce((all, store) => all + store[name], 0);
  return {
    read: sum("compaction_read_bytes"),
    removed: sum("compaction_records_removed"),
  };
}

/** What compaction does in the stores of a core. */
function compactionRates(stores, before, seconds) {
  const [now, old] = [compactionOf(stores), compactionOf(before)];
  const readRate = seconds === null ? null : growth(old.read, now.read, seconds);
  return { ...now, readRate };
}

/** The partitions of what is open, compared with those of before if it was the same that was open. */
function partsBetween(before, after, keyOf, change) {
  if (!after) return null;
  const known = before && before.name === after.name;
  const rows = compared(after.rows, known ? before.rows : [], keyOf, (row, old) => change(row, old, known));
  return { ...after, rows };
}

/**
 * A state with what happened since an earlier one, which is added to the rows of its tables: there are too many of them
 * to make each anew every second. Without an earlier one of the same life of the broker, or after a
 * long pause, there are no rates.
 */
export function between(earlier, later) {
  const passed = earlier ? (later.taken_us - earlier.taken_us) / 1e6 : 0;
  const isInterval = earlier?.started_ms === later.started_ms && passed > 0 && passed <= INTERVAL_S_MAX;
  const before = isInterval ? earlier : null;
  const seconds = isInterval ? passed : null;
  const cores = compared(later.cores, before?.cores, (core) => core.core, (core, old) => {
    const isOf = (store) => store.core === core.core;
    const known = old ? seconds : null;
    const stores = [later.stores, before?.stores ?? []].map((stores) => stores.filter(isOf));
    return { ...coreRates(core, old, known), compaction: compactionRates(...stores, known) };
  });
  const sum = (name) => (seconds === null ? null : cores.reduce((all, core) => all + (core[name] ?? 0), 0));
  const produces = merged(cores.map((core) => core.produces));
  const flushes = merged(cores.map((core) => core.flushes));
  const total = withTraffic(later.total, before?.total, seconds);
  return {
    ...later,
    seconds,
    cores: cores.map((core) => ({
      ...core,
      p99: quantile(core.produces, 0.99),
      flushP99: quantile(core.flushes, 0.99),
    })),
    total: {
      ...total,
      bytesIn: sum("bytesIn"),
      bytesOut: sum("bytesOut"),
      requestRate: sum("requestRate"),
      errorRate: sum("errorRate"),
      connections: cores.reduce((all, core) => all + core.connections, 0),
      p50: quantile(produces, 0.5),
      p99: quantile(produces, 0.99),
      flushP99: quantile(flushes, 0.99),
    },
    topics: compared(later.topics, before?.topics, (topic) => topic.name, (topic, old) =>
      withTraffic(topic, old, seconds)),
    groups: compared(later.groups, before?.groups, (group) => group.name, (group, old) =>
      Object.assign(group, { lagChange: change(old?.lag, group.lag, seconds) })),
    topic: partsBetween(before?.topic, later.topic, (row) => row.partition, (row, old, known) =>
      withTraffic(row, old, known ? seconds : null)),
    group: partsBetween(before?.group, later.group, (row) => `${row.partition} ${row.topic}`, (row, old, known) =>
      Object.assign(row, {
        commitRate: known && old ? change(old.committed, row.committed, seconds) : null,
        lagChange: known && old ? change(old.lag, row.lag, seconds) : null,
      })),
  };
}

/** The past, as far as it is drawn. */
export class Past {
  constructor() {
    this.moments = [];
    this.startedMs = null;
  }

  /** Notes what a view says. Of another life of the broker nothing is kept. */
  note(view) {
    if (view.started_ms !== this.startedMs) {
      this.moments = [];
      this.startedMs = view.started_ms;
    }
    const at = view.taken_us / 1e6;
    if (view.seconds === null) {
      // Lines end here and begin anew.
      if (this.moments.length > 0) this.moments.push({ at, isGap: true });
    } else {
      const { bytesIn, bytesOut, recordsIn, recordsOut, p50, p99, flushP99 } = view.total;
      const cores = new Map(view.cores.map((core) => [core.core, core]));
      const lane = (core) => ({ busy: core.busy, bytesIn: core.bytesIn, bytesOut: core.bytesOut });
      const lanes = new Map([...cores].map(([number, core]) => [number, lane(core)]));
      this.moments.push({ at, bytesIn, bytesOut, recordsIn, recordsOut, p50, p99, flushP99, lanes });
    }
    if (this.moments.length > MOMENTS_MAX) this.moments.shift();
  }

  /** The moments of the last so many seconds, and the one before them, by which lines come in from the side. */
  last(seconds) {
    const now = this.moments.at(-1)?.at ?? 0;
    const first = this.moments.findIndex((moment) => moment.at >= now - seconds);
    return this.moments.slice(Math.max(0, first - 2));
  }
}
