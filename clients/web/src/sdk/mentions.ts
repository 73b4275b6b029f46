/** More names in one message are not told. */
export const MENTIONS_MAX = 50;

/** The name that stands for everybody in a text; on the wire it is "*". */
export const EVERYBODY = "all";

/** Code is not for people: `@decorator` calls nobody. */
const CODE = /```[\s\S]*?(?:```|$)|`[^`\n]*`/g;
const NAME = /(?<![\p{L}\p{N}_.@/-])@([\p{L}\p{N}_][\p{L}\p{N}_.-]*)/gu;

export interface Mention {
  /** Where in the text the "@" stands, and where the name ends. */
  from: number;
  to: number;
  /** A user's name, or "*". */
  user: string;
}

/** Every "@name" of a text, in order. An address like ann@example.org is none. */
export function findMentions(text: string): Mention[] {
  const readable = text.replace(CODE, (code) => " ".repeat(code.length));
  return [...readable.matchAll(NAME)].map(({ index, 1: raw = "" }) => {
    // A sentence's own full stop does not belong to the name in it.
    const name = raw.replace(/[.-]+$/, "");
    return { from: index, to: index + 1 + name.length, user: name === EVERYBODY ? "*" : name };
  });
}

/** Who is to be told of a text, once each. */
export function mentionsIn(text: string): string[] {
  return [...new Set(findMentions(text).map(({ user }) => user))].slice(0, MENTIONS_MAX);
}
