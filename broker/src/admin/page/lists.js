// The lists of topics and of groups, and the partitions of the one of each that is open.

import { TRAFFIC, joined, named, numbers } from "./columns.js";
import { bytes, count, element, percent, rate, short, text } from "./format.js";
import { LiveTable } from "./table.js";

/** Rows of a page of topics or groups, and of partitions. */
const ROWS = 20;
const PARTITIONS = 25;

/** How fast a lag grows or shrinks: with its sign, and nothing where it stands still. */
function trend(value) {
  if (value === null) return "–";
  if (Math.abs(value) < 0.5) return "steady";
  return `${value > 0 ? "+" : "−"}${text(rate(Math.abs(value)))}`;
}

/** How much of what may be compacted has come since it was, and what compaction does about it. */
function compactionOf({ compaction }) {
  if (!compaction) return [];
  const [clean, dirty, running, stopped] = compaction;
  if (stopped > 0) return ["compaction stopped"];
  if (running > 0) return ["compacting"];
  return [`${text(percent(dirty === 0 ? 0 : dirty / (clean + dirty)))} to compact`];
}

const isStopped = ({ compaction }) => compaction !== null && compaction[3] > 0;

/** What of the partitions of a topic is not as it should be. */
function troubles(topic) {
  const { partitions_offline: offline, damage } = topic;
  const said = [];
  if (offline > 0) said.push(`${count(offline)} offline`);
  if (damage > 0) said.push(`${count(damage)} damaged`);
  if (said.length === 0) said.push("online");
  return [...said, ...compactionOf(topic)].join(", ");
}

/** The same of one partition. */
export function stateOf({ is_online: isOnline, damage }) {
  const state = isOnline ? "online" : "offline";
  return damage > 0 ? `${state}, ${count(damage)} damaged` : state;
}

const isFaulty = (row) => row.partitions_offline > 0 || row.damage > 0 || isStopped(row);

const isFaultyPartition = (row) => !row.is_online || row.damage > 0 || isStopped(row);

const TOPICS = [
  named("topic", (row) => row.name),
  numbers("partitions", count, (row) => row.partitions, { isMinor: true }),
  ...TRAFFIC,
  numbers("records", joined(short), (row) => row.records, { isMinor: true }),
  numbers("size", joined(bytes), (row) => row.size_bytes, { isMinor: true }),
  { ...named("state", troubles), mark: (row) => (isFaulty(row) ? "bad" : "quiet") },
];

const PARTITIONS_OF_TOPIC = [
  numbers("partition", count, (row) => row.partition),
  numbers("core", count, (row) => row.core, { isMinor: true }),
  numbers("store", count, (row) => row.store, { isMinor: true }),
  ...TRAFFIC,
  numbers("start", count, (row) => row.log_start, { isMinor: true }),
  numbers("high watermark", count, (row) => row.high_watermark),
  numbers("size", joined(bytes), (row) => row.size_bytes, { isMinor: true }),
  numbers("segments", count, (row) => row.segments, { isMinor: true }),
  {
    ...named("state", (row) => [stateOf(row), ...compactionOf(row)].join(", ")),
    mark: (row) => (isFaultyPartition(row) ? "bad" : "quiet"),
  },
];

const GROUPS = [
  named("group", (row) => row.name),
  { ...named("state", (row) => row.state), mark: (row) => (row.state === "reconciling" ? "notable" : "") },
  numbers("members", count, (row) => row.members, { isMinor: true }),
  numbers("topics", count, (row) => row.topics, { isMinor: true }),
  numbers("partitions", count, (row) => row.partitions, { isMinor: true }),
  numbers("lag", count, (row) => row.lag),
  numbers("change", trend, (row) => row.lagChange, { mark: (row) => (row.lagChange > 0.5 ? "notable" : "") }),
  numbers("furthest", count, (row) => row.lag_max, { isMinor: true }),
  numbers("core", count, (row) => row.core, { isMinor: true }),
];

const PARTITIONS_OF_GROUP = [
  named("topic", (row) => row.topic),
  numbers("partition", count, (row) => row.partition),
  numbers("committed", count, (row) => row.committed),
  numbers("commits to", joined(rate), (row) => row.commitRate, { isMinor: true }),
  numbers("lag", count, (row) => row.lag),
  numbers("change", trend, (row) => row.lagChange, { isMinor: true }),
];

/** A list whose rows open to their partitions. */
class Listing {
  /** `onChange` is called when partitions are wanted, or not any more. */
  constructor(place, about, parts, onChange) {
    this.wanted = null;
    this.goal = null;
    this.onChange = onChange;
    this.table = new LiveTable({
      ...about,
      rows: ROWS,
      keyOf: (row) => row.name,
      textOf: (row) => row.name,
      open: (name) => {
        this.wanted = name;
        this.inner = new LiveTable({ ...parts, rows: PARTITIONS });
        this.waiting = element("p", { className: "caption", text: "asking for partitions …" });
        this.inner.root.hidden = true;
        this.goal = null;
        onChange();
        return element("div", { className: "inner" }, this.waiting, this.inner.root);
      },
      close: () => {
        this.wanted = null;
        this.inner = null;
        onChange();
      },
    });
    place.append(this.table.root);
  }

  update(rows, leftOut, parts) {
    this.table.update(rows, leftOut);
    if (!this.inner || parts?.name !== this.wanted) return;
    this.waiting.hidden = true;
    this.inner.root.hidden = false;
    this.inner.update(parts.rows, parts.leftOut);
    if (this.goal === null) return;
    this.inner.mark(this.goal);
    this.goal = null;
  }

  /** Opens a row, and goes to one of its partitions as soon as these are there. */
  goTo(name, partition) {
    if (this.table.opened !== name && !this.table.reveal(name)) return;
    this.goal = partition;
    this.onChange();
  }
}

/** Both lists. */
export class Lists {
  constructor(topics, groups, onChange) {
    this.topics = new Listing(topics, {
      name: "topics",
      columns: TOPICS,
      order: { column: 3, falls: true },
      empty: "There are no topics yet: corelane topic create NAME makes one.",
      isFaulty,
    }, {
      name: "partitions",
      columns: PARTITIONS_OF_TOPIC,
      order: { column: 0, falls: false },
      keyOf: (row) => row.partition,
      textOf: (row) => `${row.partition} core ${row.core} store ${row.store} ${stateOf(row)}`,
      empty: "It has no partitions here.",
      isFaulty: isFaultyPartition,
    }, onChange);
    this.groups = new Listing(groups, {
      name: "groups",
      columns: GROUPS,
      order: { column: 5, falls: true },
      empty: "There are no groups yet: consumers that are given a group make one.",
    }, {
      name: "committed offsets",
      columns: PARTITIONS_OF_GROUP,
      order: { column: 4, falls: true },
      keyOf: (row) => `${row.partition} ${row.topic}`,
      textOf: (row) => `${row.topic} ${row.partition}`,
      empty: "It has committed nothing yet.",
    }, onChange);
  }

  /** What has to be asked for besides the summary. */
  wanted() {
    return { topic: this.topics.wanted, group: this.groups.wanted };
  }

  /** To a partition of a topic. */
  goTo(topic, partition) {
    this.topics.goTo(topic, partition);
  }

  /** To where a topic is found. */
  find() {
    this.topics.table.filter.focus();
  }

  update(view) {
    this.topics.update(view.topics, view.topicsLeftOut, view.topic);
    this.groups.update(view.groups, view.groupsLeftOut, view.group);
  }
}
