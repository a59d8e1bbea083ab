// The partitions that are looked for among thousands: those that are not as they should be, and the busiest ones.

import { TRAFFIC, joined, named, numbers } from "./columns.js";
import { bytesRate, count, element, many, say } from "./format.js";
import { stateOf } from "./lists.js";
import { LiveTable } from "./table.js";

const ROWS = 8;

const WHERE = [
  named("topic", (row) => row.topic),
  numbers("partition", count, (row) => row.partition),
  numbers("core", count, (row) => row.core, { isMinor: true }),
  numbers("store", count, (row) => row.store, { isMinor: true }),
];

const FAULTY = [...WHERE, { ...named("state", stateOf), mark: () => "bad" }];

const BUSIEST = [...WHERE, ...TRAFFIC, numbers("together", joined(bytesRate), (row) => row.bytesIn + row.bytesOut)];

/** Both tables, each of which is there while it has rows. */
export class Standouts {
  /** `onChosen` is called with the topic and the number of the partition that somebody wants to see. */
  constructor(place, caption, onChosen) {
    this.caption = caption;
    const table = (name, columns, order) => new LiveTable({
      name,
      columns,
      order,
      rows: ROWS,
      isPlain: true,
      keyOf: (row) => `${row.topic} ${row.partition}`,
      textOf: (row) => row.topic,
      choose: (key) => {
        const [topic, partition] = key.split(" ");
        onChosen(topic, Number(partition));
      },
      isFaulty: () => name === "faulty partitions",
      empty: "",
    });
    this.faulty = table("faulty partitions", FAULTY, { column: 0, falls: false });
    this.busiest = table("busy partitions", BUSIEST, { column: BUSIEST.length - 1, falls: true });
    this.title = element("h3", { className: "alarming", text: "Not as they should be" });
    place.append(this.title, this.faulty.root, this.busiest.root);
  }

  update({ total, faulty, faultyLeftOut, busiest }) {
    const busy = busiest ? busiest.rows.length + busiest.leftOut : 0;
    const verb = busy === 1 ? "has" : "have";
    const traffic = !busiest ? "" : busy === 0 ? "; none has traffic" : `; ${count(busy)} ${verb} traffic`;
    say(this.caption, `${many(total.partitions, "partition")}${traffic}.`);
    this.title.hidden = faulty.length === 0;
    this.faulty.root.hidden = faulty.length === 0;
    this.faulty.update(faulty, faultyLeftOut);
    this.busiest.root.hidden = busy === 0;
    this.busiest.update(busiest?.rows ?? [], 0);
  }
}
