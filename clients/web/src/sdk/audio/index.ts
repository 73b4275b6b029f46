/** Live audio in the browser: `Publisher.open` goes on air, `Player.open` plays what is heard. See README.md. */
export { LADDERS } from "./ladders";
export { meterShare } from "./level";
export { Player, type PlayerEvents } from "./player";
export type { Playing } from "./playout";
export { Publisher, type PublisherEvents, type PublisherOptions, type SourceChoice } from "./publisher";
export type { Source, SourceKind } from "./sources";
export { type AudioFiles, FILES, missingFor } from "./support";
export { SILENCE } from "../media";
