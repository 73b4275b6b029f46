import { el } from "./dom";

export type Field =
  | { name: string; kind: "text" | "area"; label: string; value?: string; placeholder?: string; max?: number; required?: boolean; pattern?: string; hint?: string }
  | { name: string; kind: "choice"; label: string; value?: string; options: readonly (readonly [value: string, label: string])[] }
  | { name: string; kind: "check"; label: string; value?: boolean }
  | { name: string; kind: "file"; label: string; accept: string };

export interface FormDialog {
  title: string;
  note?: string;
  fields: readonly Field[];
  /** Fields for the few who look for them, behind a line that opens them. */
  more?: { label: string; fields: readonly Field[] };
  submit: string;
  danger?: boolean;
  testid?: string;
  /** What it throws is shown, and the dialog stays. */
  run(values: Values): Promise<void> | void;
  /** Called when a field changes, for fields that follow others. */
  changed?(name: string, inputs: Map<string, Input>): void;
}

export type Input = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

export class Values {
  constructor(private readonly inputs: ReadonlyMap<string, Input>) {}

  text(name: string): string {
    return this.inputs.get(name)?.value.trim() ?? "";
  }

  checked(name: string): boolean {
    const input = this.inputs.get(name);
    return input instanceof HTMLInputElement && input.checked;
  }

  file(name: string): File | undefined {
    const input = this.inputs.get(name);
    return input instanceof HTMLInputElement ? input.files?.[0] : undefined;
  }
}

/** A modal dialog with a form. The browser keeps the focus in it and gives it back. */
export function askForm(wanted: FormDialog): void {
  const inputs = new Map<string, Input>();
  const problem = el("p", { class: "field-error", role: "alert" });
  const submit = el("button", { class: wanted.danger ? "button danger" : "button primary", text: wanted.submit, testid: "dialog-submit" });
  const cancel = el("button", { class: "button quiet", text: "Cancel" });
  cancel.type = "button";
  const form = el("form", {}, el("h2", { text: wanted.title }));
  if (wanted.note) form.append(el("p", { class: "note", text: wanted.note }));
  for (const field of wanted.fields) form.append(fieldNode(field, inputs));
  if (wanted.more) form.append(el("details", {}, el("summary", { text: wanted.more.label }), ...wanted.more.fields.map((field) => fieldNode(field, inputs))));
  form.append(problem, el("div", { class: "row" }, cancel, submit));
  const dialog = openDialog(wanted.title, form, wanted.testid);
  cancel.onclick = () => dialog.close();
  // A field may follow another one from the beginning.
  wanted.changed?.("", inputs);
  form.oninput = (event) => wanted.changed?.((event.target as Input).name, inputs);
  form.onsubmit = async (event) => {
    event.preventDefault();
    problem.textContent = "";
    submit.disabled = true;
    try {
      await wanted.run(new Values(inputs));
      dialog.close();
    } catch (error) {
      problem.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      submit.disabled = false;
    }
  };
  inputs.values().next().value?.focus();
}

/** A modal dialog around a content that has its own heading. Escape and a press outside close it. */
export function openDialog(label: string, content: HTMLElement, testid?: string): HTMLDialogElement {
  const dialog = el("dialog", { class: "dialog", label, ...(testid && { testid }) }, content);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target === dialog) dialog.close();
  });
  // The page's own Escape is not meant while a dialog is open.
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A dialog that only tells something. */
export function tell(title: string, content: HTMLElement, testid?: string, wide = false): void {
  const close = el("button", { class: "button quiet", text: "Close" });
  const dialog = openDialog(title, el("div", {}, el("h2", { text: title }), content, el("div", { class: "row" }, close)), testid);
  dialog.classList.toggle("wide", wide);
  close.onclick = () => dialog.close();
  close.focus({ preventScroll: true });
}

function fieldNode(field: Field, inputs: Map<string, Input>): HTMLElement {
  const input = inputFor(field);
  input.name = field.name;
  input.id = `field-${field.name}`;
  inputs.set(field.name, input);
  if (field.kind === "check") return el("label", { class: "check" }, input, el("span", { text: field.label }));
  const node = el("label", { class: "field" }, el("span", { text: field.label }), input);
  if (field.kind !== "choice" && field.kind !== "file" && field.hint) node.append(el("small", { class: "muted", text: field.hint }));
  return node;
}

function inputFor(field: Field): Input {
  if (field.kind === "choice") {
    const select = el("select");
    for (const [value, label] of field.options) select.append(new Option(label, value, false, value === field.value));
    return select;
  }
  if (field.kind === "area") {
    const area = el("textarea");
    area.rows = 3;
    area.value = field.value ?? "";
    if (field.max) area.maxLength = field.max;
    return area;
  }
  const input = el("input");
  if (field.kind === "check") {
    input.type = "checkbox";
    input.checked = field.value ?? false;
    return input;
  }
  if (field.kind === "file") {
    input.type = "file";
    input.accept = field.accept;
    return input;
  }
  input.value = field.value ?? "";
  input.autocomplete = "off";
  input.required = field.required ?? false;
  if (field.placeholder) input.placeholder = field.placeholder;
  if (field.max) input.maxLength = field.max;
  if (field.pattern) input.pattern = field.pattern;
  return input;
}
