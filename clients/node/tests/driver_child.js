"use strict";
// What a worker of a cluster gets by itself (driver.js, "child").

const { createHash } = require("node:crypto");
const { credential } = require("keybroker");

credential(process.argv[2]).then(
	(c) => send({ lease: c.lease, key_hash: createHash("sha256").update(c.apiKey).digest("hex").slice(0, 8) }),
	({ code, message, advice, socket, retryAfterMs }) => send({ error: { code, message, advice, socket, retryAfterMs } }),
);

function send(message) {
	process.send(message, () => process.disconnect());
}
