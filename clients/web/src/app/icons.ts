// Path data for `icon`, 20 × 20, drawn as lines.

export const CLOSE = "M5 5l10 10M15 5L5 15";
export const BACK = "M12 5l-5 5 5 5";
export const SMILE = "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14M7.5 8v.5M12.5 8v.5M7 12c1.5 2 4.5 2 6 0";
export const REPLY = "M8 5L4 9l4 4M4 9h6c4 0 6 2 6 6";
export const THREAD = "M4 4h12v9H9l-4 3v-3H4z";
export const EDIT = "M4 16l1-4 8-8 3 3-8 8-4 1z";
export const TRASH = "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6";
export const PIN = "M7 3h6l-1 6 2.5 3h-9L8 9zM10 12v5";
export const MORE = "M5 10h.01M10 10h.01M15 10h.01";
export const SEND = "M10 16V4M4.5 9.5L10 4l5.5 5.5";
export const SEARCH = "M9 4a5 5 0 1 0 0 10A5 5 0 0 0 9 4M13 13l4 4";
export const PLAY = "M7 4.5v11l9-5.5z";
export const STOP = "M5.5 5.5h9v9h-9z";
export const VOLUME = "M4 8v4h3l4 3.5v-11L7 8zM14 7.5a3.5 3.5 0 0 1 0 5";
export const CHART = "M3 16h14M4 13l4-5 3 3 5-7";
