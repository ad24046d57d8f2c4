"use strict";
// Connects to the first socket that accepts, and checks who made it.
//
// Node cannot ask the kernel who serves a connection (SO_PEERCRED). The file says who made the socket: its owner is the
// uid that bound it, and only root can give it away. So that the file looked at is the one connected to, the directory
// is opened first and both happen below that descriptor: in a directory that only trusted uids can write to, or that is
// sticky, nobody else can put another socket into its place in between.

const fs = require("node:fs");
const net = require("node:net");
const path = require("node:path");
const { environment } = require("./find");
const { KeybrokerError } = require("./errors");

const O_PATH = 0o10000000; // needs no right to list the directory; not among Node's constants
const USER = "keybroker";
const NO_GID = 65534; // the kernel's word for one that this user namespace lacks

/** What the expression captures in the user or group database. It is read as a file, since Node has no other way to it. */
function lookUp(database, expression) {
	try {
		return fs.readFileSync(database, "utf8").match(new RegExp(expression, "m"))?.[1];
	} catch {
		return undefined;
	}
}

/** The uid of the broker's own user. */
function brokerUid() {
	const text = environment("KEYBROKER_SERVER_UID") ?? lookUp("/etc/passwd", `^${USER}:[^:]*:(\\d+):`);
	return /^\d+$/.test(text) ? Number(text) : undefined;
}

const trusted = (uid) => uid === process.geteuid() || uid === 0 || uid === brokerUid();

/** Why the socket is not to be trusted; undefined if it is. */
function distrust(dir, socket) {
	const mode = dir.mode & 0o7777;
	if (mode & 0o022 && !(mode & 0o1000))
		return `others can write to its directory (mode ${mode.toString(8)}), so anybody could serve there.`;
	if (!trusted(dir.uid)) return `its directory belongs to uid ${dir.uid}, which is neither you, root nor the user ${USER}.`;
	if (!trusted(socket.uid)) return `it was made by uid ${socket.uid}, which is neither you, root nor the user ${USER}.`;
	return undefined;
}

function connect(name) {
	return new Promise((resolve, reject) => {
		const socket = net.connect(name);
		socket.unref();
		socket.once("error", reject);
		socket.once("connect", () => {
			socket.off("error", reject);
			resolve(socket);
		});
	});
}

/** Throws the system's error if the socket does not accept. */
async function openOne(name) {
	// a symbolic link is followed once, here, and not again below
	const real = fs.realpathSync(name);
	const fd = fs.openSync(path.dirname(real), O_PATH | fs.constants.O_DIRECTORY);
	try {
		const pinned = `/proc/self/fd/${fd}/${path.basename(real)}`;
		const found = fs.lstatSync(pinned);
		if (!found.isSocket()) throw Object.assign(new Error(), { code: "ENOTSOCK" });
		const socket = await connect(pinned);
		const why = distrust(fs.fstatSync(fd), found);
		if (!why) return socket;
		socket.destroy();
		throw new KeybrokerError("untrusted", `${name}: ${why}`, { socket: name });
	} finally {
		fs.closeSync(fd);
	}
}

/** The name of the group that the socket is made for, if it is made for one. */
function groupOf(name) {
	try {
		const { mode, gid } = fs.statSync(name);
		if (mode & 0o020 && gid !== 0 && gid !== NO_GID) return lookUp("/etc/group", `^([^:\\n]+):[^:]*:${gid}:`);
	} catch {
		// its directory is closed to us, too
	}
	return undefined;
}

/** Only a socket that is made for a group asks for its members; any other is its owner's own. */
function accessAdvice(name) {
	const group = groupOf(name);
	return group
		? `Permission denied: join the group ${group} (\`sudo usermod -aG ${group} $USER\`, then log in again), or start a broker of your own with \`keybrokerd\`.`
		: "Permission denied: that broker is its owner's alone. Start one of your own with `keybrokerd`, or name another by KEYBROKER_SOCKET.";
}

function unreachable(tried) {
	const list = tried.map(({ path: name, why }) => `${name}: ${why}`).join("; ");
	const closed = tried.find(({ why }) => why === "EACCES");
	const advice = closed && !tried.some(({ why }) => why === "ECONNREFUSED") ? accessAdvice(closed.path) : undefined;
	return new KeybrokerError("unreachable", `no broker accepts connections (${list}).`, {
		socket: tried[0].path,
		tried,
		advice,
	});
}

/** -> {socket, name}. */
async function open(names) {
	const tried = [];
	for (const name of names) {
		try {
			return { socket: await openOne(name), name };
		} catch (error) {
			if (error instanceof KeybrokerError) throw error;
			// the queue of connections is full: somebody listens there
			if (error.code === "EAGAIN")
				throw Object.assign(
					new KeybrokerError("timeout", `${name} listens, but takes no connection.`, { socket: name }),
					{ listens: true },
				);
			tried.push({ path: name, why: error.code ?? String(error) });
		}
	}
	throw unreachable(tried);
}

module.exports = { open };
