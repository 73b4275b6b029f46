import { LADDERS, missingFor, Publisher, type SourceChoice } from "../../sdk/audio/index";
import { type Client, type StreamProfile, VezaError } from "../../sdk/index";
import { askForm, tell, type Values } from "../dialogs";
import { el } from "../dom";
import { slug } from "../format";

/** A stream's id is at most so long, so that its room's name fits. */
const ID_MAX = 57;

const PROFILES: readonly (readonly [StreamProfile, string])[] = [
  ["music", "Music: full sound, nothing done to it"],
  ["voice", "Voice: freed of echo and noise, for thin networks"],
];
const SOURCES: readonly (readonly [SourceChoice["kind"], string])[] = [
  ["microphone", "The microphone, or what is plugged in"],
  ["file", "A file"],
  ["tab", "The sound of another tab"],
];

/** Asks what to send, makes the stream and goes on air with it. */
export function askGoLive(client: Client, begun: (publisher: Publisher) => void): void {
  const missing = missingFor("publish");
  if (missing) return tell("Going live", el("p", { class: "note", text: missing }));
  let edited = false;
  askForm({
    title: "Go live",
    note: "Anybody may listen. The show has a room of its own to talk in.",
    submit: "Go live",
    testid: "golive-dialog",
    fields: [
      { name: "title", kind: "text", label: "Title", required: true, max: 100, placeholder: "Friday night session" },
      { name: "id", kind: "text", label: "Address", required: true, max: ID_MAX, pattern: "[a-z0-9._\\-]+", placeholder: "friday-night-session", hint: "Another show is another address." },
      { name: "source", kind: "choice", label: "What is heard", options: SOURCES },
      { name: "file", kind: "file", label: "The file", accept: "audio/*,video/*" },
      { name: "profile", kind: "choice", label: "It is", options: PROFILES },
    ],
    changed: (name, inputs) => {
      const [title, id, source, file] = ["title", "id", "source", "file"].map((one) => inputs.get(one));
      if (name === "id") edited = id?.value !== "";
      if (name === "title" && id && title && !edited) id.value = slug(title.value).slice(0, ID_MAX);
      const field = file?.closest<HTMLElement>(".field");
      if (field) field.hidden = source?.value !== "file";
    },
    run: async (values) => {
      const profile = values.text("profile") as StreamProfile;
      const source = sourceOf(values);
      await client.createStream(values.text("id"), values.text("title"), { profile });
      begun(await Publisher.open(client, values.text("id"), { profile, source, rungs: LADDERS[profile] }));
    },
  });
}

function sourceOf(values: Values): SourceChoice {
  const kind = values.text("source") as SourceChoice["kind"];
  if (kind !== "file") return { kind };
  const file = values.file("file");
  if (!file) throw new VezaError("invalid_argument", "Choose a file.");
  return { kind, file };
}
