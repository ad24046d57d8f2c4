"use strict";

const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const path = require("node:path");
const { test } = require("node:test");

const tsc = require.resolve("typescript/bin/tsc");

test("the types, as a module of either kind has them", () => {
	const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", path.join(__dirname, "types")], { encoding: "utf8" });
	assert.equal(status, 0, stdout);
});
