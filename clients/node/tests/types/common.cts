import keybroker = require("keybroker");

export const key: () => Promise<string> = keybroker.apiKey();
export const fetch: typeof globalThis.fetch = keybroker.fetch("service");
export const closed: Promise<void> = keybroker.close();
