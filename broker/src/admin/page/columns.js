// The columns that several tables have.

import { bytesRate, rate, text } from "./format.js";

/** A column of names. */
export const named = (title, of, more) => ({ title, isText: true, by: of, shown: of, ...more });

/** A column of numbers: how they are said, and which they are. */
export const numbers = (title, said, of, more) => ({ title, by: of, shown: (row) => said(of(row)), ...more });

/** How a value with a unit is said in a cell. */
export const joined = (said) => (value) => text(said(value));

/** What goes in and out. */
export const TRAFFIC = [
  numbers("records in", joined(rate), (row) => row.recordsIn, { isMinor: true }),
  numbers("in", joined(bytesRate), (row) => row.bytesIn),
  numbers("records out", joined(rate), (row) => row.recordsOut, { isMinor: true }),
  numbers("out", joined(bytesRate), (row) => row.bytesOut, { isMinor: true }),
];
