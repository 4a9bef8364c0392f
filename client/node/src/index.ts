export { Client, type CallOptions, type ClientOptions } from "./client.js";
export * from "./errors.js";
export { DirtyStream } from "./stream.js";
export type { Value } from "./values.js";
