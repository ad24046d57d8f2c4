"use strict";
// Which socket is taken, and which is trusted.

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const path = require("node:path");
const { test } = require("node:test");
const { KeybrokerError } = require("keybroker");
const { KEYS, clientFor, directory, fakeBroker, granted, listen, setEnv, until } = require("./fake");
const { findSockets } = require("./internal")("find");

const isRoot = process.geteuid() === 0;
const OTHER = 54321; // a uid of nobody

function nowhere(t, more) {
	setEnv(t, {
		XDG_RUNTIME_DIR: directory(t),
		KEYBROKER_SOCKET: undefined,
		KEYBROKER_REQUIRED: undefined,
		KEYBROKER_SERVER_UID: undefined,
		OPENAI_API_KEY: undefined,
		OPENAI_BASE_URL: undefined,
		...more,
	});
}

/** The code of the error that a first use ends with. */
async function codeOf(t, options) {
	const error = await clientFor(t, options)
		.credential()
		.catch((e) => e);
	assert.ok(error instanceof KeybrokerError, `no error: ${error}`);
	return error.code;
}

test("the order in which sockets are tried", (t) => {
	const name = "keybroker/keybroker.sock";
	nowhere(t, { XDG_RUNTIME_DIR: "/x/run", XDG_STATE_HOME: "/x/state", HOME: "/x/home" });
	assert.deepEqual(findSockets(), [`/x/run/${name}`, `/run/${name}`]);
	setEnv(t, { XDG_RUNTIME_DIR: "" });
	assert.deepEqual(findSockets(), [`/run/user/${process.geteuid()}/${name}`, `/x/state/${name}`, `/run/${name}`]);
	setEnv(t, { XDG_STATE_HOME: undefined });
	assert.equal(findSockets()[1], `/x/home/.local/state/${name}`);
	setEnv(t, { KEYBROKER_SOCKET: "unix:///x/own.sock" });
	assert.deepEqual(findSockets(), ["/x/own.sock"]);
	assert.deepEqual(findSockets("/x/given.sock"), ["/x/given.sock"]);
});

test("no socket: each that was tried, and why not", async (t) => {
	nowhere(t);
	const file = path.join(directory(t), "file");
	fs.writeFileSync(file, "");
	const error = await clientFor(t, { socket: file })
		.credential()
		.catch((e) => e);
	assert.equal(error.code, "unreachable");
	assert.deepEqual(error.tried, [{ path: file, why: "ENOTSOCK" }]);
	assert.match(error.message, /keybrokerd/);
	assert.equal(error.socket, file);
});

test("of the usual places the first is the error's socket", async (t) => {
	nowhere(t);
	const error = await clientFor(t, {})
		.credential()
		.catch((e) => e);
	assert.deepEqual([error.tried.length, error.socket], [2, error.tried[0].path]);
});

test("a broker that was met is the only one from then on", async (t) => {
	nowhere(t);
	const run = path.join(process.env.XDG_RUNTIME_DIR, "keybroker");
	fs.mkdirSync(run, 0o700);
	const own = path.join(run, "keybroker.sock");
	const other = await fakeBroker(t, { acquire: () => granted({ api_key: KEYS[2], base_url: "http://127.0.0.1:2/v1" }) });
	const { realpathSync } = fs;
	t.mock.method(fs, "realpathSync", (name) => (name.startsWith("/run/keybroker/") ? other.socket : realpathSync(name)));
	const first = await fakeBroker(t, {}, own);
	const client = clientFor(t, { timeoutMs: 300 });
	assert.equal(await client.apiKey()(), KEYS[1]);
	await first.stop();
	const error = await client.refresh().catch((e) => e);
	assert.deepEqual([error.code, error.tried?.map((one) => one.path)], ["unreachable", [own]]);
	assert.equal(await client.apiKey()(), KEYS[1]);
	assert.equal(other.asked.length, 0);
	await fakeBroker(t, { acquire: () => granted({ api_key: KEYS[3] }) }, own);
	assert.equal((await client.refresh()).apiKey, KEYS[3]);
});

test("a socket that nobody listens on", async (t) => {
	nowhere(t);
	const { socket, stop } = await listen(t, () => {});
	fs.linkSync(socket, `${socket}.left`);
	await stop();
	const error = await clientFor(t, { socket: `${socket}.left` })
		.credential()
		.catch((e) => e);
	assert.deepEqual([error.code, error.tried[0].why], ["unreachable", "ECONNREFUSED"]);
});

/** The error of who may not use that socket. */
async function closed(t, socket, mode) {
	fs.chmodSync(socket, mode);
	if (isRoot) {
		process.seteuid(OTHER);
		t.after(() => process.seteuid(0));
	}
	const error = await clientFor(t, { socket })
		.credential()
		.catch((e) => e);
	if (isRoot) process.seteuid(0);
	assert.deepEqual([error.code, error.tried[0].why], ["unreachable", "EACCES"]);
	return error;
}

test("a socket that is closed to us is no reason to take the environment's key", async (t) => {
	nowhere(t, { OPENAI_API_KEY: KEYS[9] });
	const { socket } = await fakeBroker(t);
	const error = await closed(t, socket, 0);
	assert.match(error.advice, /Permission denied.*its owner's alone/);
	assert.doesNotMatch(error.advice, /group/);
});

test("a socket that is made for a group asks for its members", async (t) => {
	nowhere(t);
	const mine = process.getgroups();
	const groups = fs
		.readFileSync("/etc/group", "utf8")
		.trim()
		.split("\n")
		.map((line) => ({ name: line.split(":")[0], gid: Number(line.split(":")[2]) }))
		.filter(({ gid }) => gid !== 0 && gid < 65534);
	// the owner's bits count for the owner, whatever the group's say
	const group = groups.find(({ gid }) => (isRoot ? !mine.includes(gid) : gid === process.getgid()));
	if (!group) return t.skip("no group to try it with");
	const { socket } = await fakeBroker(t);
	fs.chownSync(socket, -1, group.gid);
	fs.chmodSync(path.dirname(socket), 0o755);
	assert.match((await closed(t, socket, 0)).advice, /its owner's alone/);
	const error = await closed(t, socket, 0o060);
	assert.ok(error.advice.includes(`join the group ${group.name} (\`sudo usermod -aG ${group.name} $USER\``), error.advice);
	return undefined;
});

test("no descriptors being left is no reason either", async (t) => {
	nowhere(t, { OPENAI_API_KEY: KEYS[9] });
	const { socket } = await fakeBroker(t);
	t.mock.method(fs, "openSync", () => {
		throw Object.assign(new Error("EMFILE: too many open files"), { code: "EMFILE" });
	});
	const error = await clientFor(t, { socket })
		.credential()
		.catch((e) => e);
	assert.deepEqual([error.code, error.tried[0].why], ["unreachable", "EMFILE"]);
});

test("a directory that others can write to, unless it is sticky", async (t) => {
	nowhere(t, { OPENAI_API_KEY: KEYS[9] });
	const { socket, asked } = await fakeBroker(t);
	fs.chmodSync(path.dirname(socket), 0o777);
	assert.equal(await codeOf(t, { socket }), "untrusted");
	fs.chmodSync(path.dirname(socket), 0o720);
	assert.equal(await codeOf(t, { socket }), "untrusted");
	assert.equal(asked.length, 0);
	fs.chmodSync(path.dirname(socket), 0o1777);
	await clientFor(t, { socket }).credential();
});

test("a socket or a directory of another uid", { skip: !isRoot && "needs root" }, async (t) => {
	nowhere(t);
	const { socket, asked } = await fakeBroker(t);
	for (const file of [socket, path.dirname(socket)]) {
		fs.chownSync(file, OTHER, 0);
		assert.equal(await codeOf(t, { socket }), "untrusted");
		assert.equal(asked.length, 0);
		setEnv(t, { KEYBROKER_SERVER_UID: String(OTHER) });
		const client = clientFor(t, { socket });
		await client.credential();
		await client.close();
		asked.length = 0;
		setEnv(t, { KEYBROKER_SERVER_UID: undefined });
		fs.chownSync(file, 0, 0);
	}
});

test("a symbolic link is judged by what it leads to", async (t) => {
	nowhere(t);
	const { socket } = await fakeBroker(t);
	const link = path.join(directory(t), "link");
	fs.symlinkSync(socket, link);
	await clientFor(t, { socket: link }).credential();
	fs.chmodSync(path.dirname(socket), 0o777);
	assert.equal(await codeOf(t, { socket: link }), "untrusted");
});

test("a path that is longer than a socket's address", async (t) => {
	nowhere(t);
	const { socket } = await fakeBroker(t);
	const deep = path.join(directory(t), "d".repeat(120));
	fs.mkdirSync(deep, 0o700);
	fs.renameSync(socket, path.join(deep, "s"));
	await clientFor(t, { socket: path.join(deep, "s") }).credential();
});

test("no descriptor stays open", async (t) => {
	nowhere(t);
	const { socket, connections } = await fakeBroker(t);
	const count = () => fs.readdirSync("/proc/self/fd").length;
	const before = count();
	for (let i = 0; i < 5; i++) {
		const client = clientFor(t, { socket });
		await client.credential();
		await client.close();
	}
	await until(() => connections.size === 0 && count() <= before);
});

test("without a broker the environment's key is used, and it is said once", async (t) => {
	nowhere(t, { OPENAI_API_KEY: `${KEYS[9]}\n`, OPENAI_BASE_URL: "http://127.0.0.1:2/v1" });
	const warnings = [];
	const note = (warning) => warnings.push(warning);
	process.on("warning", note);
	t.after(() => process.off("warning", note));
	const client = clientFor(t, {});
	const [one, other] = await Promise.all([client.credential(), client.credential("other")]);
	assert.deepEqual([one.apiKey, other.apiKey, one.baseURL], [KEYS[9], KEYS[9], "http://127.0.0.1:2/v1"]);
	assert.equal(one.mode, "environment");
	// for good, whatever comes: a key must not get to the other base URL
	setEnv(t, { OPENAI_API_KEY: KEYS[8], OPENAI_BASE_URL: undefined });
	const { socket } = await fakeBroker(t);
	fs.mkdirSync(path.join(process.env.XDG_RUNTIME_DIR, "keybroker"), 0o700);
	fs.symlinkSync(socket, path.join(process.env.XDG_RUNTIME_DIR, "keybroker/keybroker.sock"));
	assert.equal((await client.refresh()).apiKey, KEYS[9]);
	await new Promise(setImmediate);
	assert.equal(warnings.length, 1);
	assert.equal(warnings[0].code, "KEYBROKER_FALLBACK");
	assert.ok(!warnings[0].message.includes(KEYS[9]));
	await client.close();
	assert.equal(await clientFor(t, {}).apiKey()(), KEYS[1]);
});

test("OpenAI's own base URL goes with the environment's key", async (t) => {
	nowhere(t, { OPENAI_API_KEY: KEYS[9] });
	assert.equal(await clientFor(t, {}).baseURL(), "https://api.openai.com/v1");
});

test("KEYBROKER_REQUIRED=1 forbids it", async (t) => {
	nowhere(t, { OPENAI_API_KEY: KEYS[9], KEYBROKER_REQUIRED: "1" });
	assert.equal(await codeOf(t, {}), "unreachable");
});

test("a denial never falls back", async (t) => {
	nowhere(t, { OPENAI_API_KEY: KEYS[9] });
	const { socket } = await fakeBroker(t, {
		acquire: () => {
			throw { code: "denied", message: "no rule allows it" };
		},
	});
	assert.equal(await codeOf(t, { socket }), "denied");
});

test("a queue that is full is waited for, and no longer than the time-out", async (t) => {
	nowhere(t, { OPENAI_API_KEY: KEYS[9] });
	const file = path.join(directory(t), "full.sock");
	const deaf = `
		require("node:net").createServer().listen(${JSON.stringify(file)}, 1, () => {
			require("node:fs").writeSync(1, "listens");
			Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // and accepts nothing
		});`;
	const child = spawn(process.execPath, ["-e", deaf], { stdio: ["ignore", "pipe", "inherit"] });
	t.after(() => child.kill("SIGKILL"));
	await new Promise((resolve) => child.stdout.once("data", resolve));
	for (let isFull = false; !isFull; )
		isFull = await new Promise((resolve) => {
			const one = net.connect(file, () => resolve(false));
			one.on("error", () => resolve(true));
			t.after(() => one.destroy());
		});
	const began = performance.now();
	assert.equal(await codeOf(t, { socket: file, timeoutMs: 300 }), "timeout");
	const took = performance.now() - began;
	assert.ok(took > 100 && took < 3000, `took ${took} ms`);
});
