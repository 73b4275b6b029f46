/** The Veza SDK: `connect`, then `client.join("lobby")`, then `room.publish("hello")`. See README.md. */
export { Client, connect } from "./client";
export type { Clock } from "./clock";
export { discover, type Discovery } from "./discover";
export { VezaError, type VezaErrorCode } from "./errors";
export type { TransportName } from "./link";
export type { Message } from "./message";
export type { ClientEvents, Endpoints, Options, RoomInfo, Status } from "./options";
export type { Outgoing, Receipt } from "./outbox";
export type { People } from "./people";
export { Room, type RoomEvents } from "./room";
