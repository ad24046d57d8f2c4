/* The steps of a start, in their order: store, claim, then sockets. Each failure says what to do
 * about it. */
#include "daemon/start.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "daemon/daemon.h"
#include "daemon/server.h"
#include "io/process.h"
#include "io/seal_key.h"
#include "io/socket.h"
#include "io/store.h"
#include "io/store_rows.h"

#define START_CLIENTS_GROUP "keybroker-clients"

int start_process(void)
{
	const struct rlimit none = { 0 };
	struct rlimit files;

	/* No core, no ptrace by the same uid, no reading of /proc/PID/mem: this process holds the
	 * master key. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		log_warning("core dumps cannot be switched off: %s", strerrordesc_np(errno));
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE,
				&files); /* the lower limit will do, for fewer clients */
	}
	(void)umask(077);
	/* A peer's end, a log reader's end and a file size limit are errors of the call, not our
	 * death. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN); /* until there is a configuration to read again */
	return 0;
}

/* What an outcome of the store means for the start. */
static const struct {
	int outcome;
	int exit_code;
	const char *advice;
} start_outcomes[] = {
	{ STORE_E_NEWER, EX_CONFIG,
	  "the state was written by a newer keybrokerd: use that version" },
	{ STORE_E_SEAL, EX_CONFIG,
	  "the state was sealed with another seal key: put that key back, or start over with --reset-state (all keys are "
	  "made anew, the old state is kept beside it)" },
	{ STORE_E_ACCESS, EX_CONFIG,
	  "the state's directory or file is not safe to use (see above)" },
	{ STORE_E_CORRUPT, EX_CONFIG,
	  "the state is damaged: restore it, or start over with --reset-state (the old state is kept beside it)" },
	{ STORE_E_BUSY, EX_TEMPFAIL, "another process holds the state's lock" },
	{ STORE_E_FULL, EX_IOERR, "no room on the state's file system" },
	{ STORE_E_READONLY, EX_IOERR,
	  "the state cannot be written: the file or its file system is read-only" },
};

static int start_store_failed(const struct daemon *d, int r)
{
	for (size_t i = 0; i < ARRAY_SIZE(start_outcomes); i++) {
		if (start_outcomes[i].outcome != r)
			continue;
		log_error("%s: %s", d->config->state_dir, start_outcomes[i].advice);
		return start_outcomes[i].exit_code;
	}
	log_error("%s: the state cannot be opened: %s", d->config->state_dir, strerrordesc_np(-r));
	return EX_IOERR;
}

/* Proven: the process that the row names has ended. Within another pid namespace a pid proves
 * nothing. */
static bool start_is_dead(const struct leader *row, void *userdata)
{
	const struct leader *self = userdata;
	int fd;

	if (row->pidns != self->pidns)
		return false;
	fd = process_open_same(row->pid, row->start_time);
	if (fd >= 0)
		(void)close(fd); /* alive */
	return fd == -ESRCH;
}

static int start_self(struct daemon *d, struct leader *self)
{
	int r = process_boot_id(self->boot_id);

	self->pid = getpid();
	r = r < 0 ? r : process_start_time(self->pid, &self->start_time);
	r = r < 0 ? r : process_pidns(&self->pidns);
	crypt_draw_id(self->holder);
	(void)snprintf(self->instance, sizeof(self->instance), "%s", d->config->instance);
	memcpy(d->boot_id, self->boot_id, sizeof(d->boot_id));
	return r;
}

static bool start_has_state(const struct daemon *d)
{
	_cleanup_(freep) char *path = xasprintf("%s/state.db", d->config->state_dir);

	return access(path, F_OK) == 0;
}

/* With --reset-state: the old files are set aside, not deleted. */
static int start_set_state_aside(const struct daemon *d, struct leader *self)
{
	struct leader row;
	static const char *const files[] = { "state.db", "state.db-wal", "state.db-shm" };
	long long now = clock_now().wall_ms / 1000;

	if (start_has_state(d) && store_peek_leader(d->config->state_dir, &row) == 0 &&
	    strcmp(row.boot_id, self->boot_id) == 0 && !start_is_dead(&row, self)) {
		log_error("--reset-state: a broker leads on this state (pid %d); stop it first",
			  (int)row.pid);
		return EX_TEMPFAIL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(freep) char *from = xasprintf("%s/%s", d->config->state_dir, files[i]);
		_cleanup_(freep) char *to =
			xasprintf("%s/old-%lld-%s", d->config->state_dir, now, files[i]);

		if (rename(from, to) == 0)
			log_warning("--reset-state: %s is now %s", from, to);
		else if (errno != ENOENT) {
			log_error("--reset-state: %s cannot be renamed: %s", from,
				  strerrordesc_np(errno));
			return EX_IOERR;
		}
	}
	return 0;
}

static int start_keyring(struct daemon *d)
{
	_cleanup_(secret_freep) struct secret *seal_key = NULL;
	_cleanup_(freep) char *path = seal_key_path(d->config->system_mode);
	/* Never made anew beside a state that another one sealed: that would hide the loss of the
	 * right one. */
	int r = seal_key_load(d->config->system_mode, !start_has_state(d), &seal_key);

	if (r == SEAL_KEY_E_MISSING)
		log_error(
			"%s is missing, but the state in %s is sealed: put the seal key back, or start over with "
			"--reset-state",
			path, d->config->state_dir);
	if (r == SEAL_KEY_E_REFUSED && start_has_state(d))
		log_error(
			"the state in %s needs its seal key: put it back, or start over with --reset-state",
			d->config->state_dir);
	if (r == 0)
		r = keyring_new(&d->keyring, seal_key);
	return r == 0 ? 0 : EX_CONFIG;
}

static int start_claim(struct daemon *d, struct leader *self)
{
	struct leader current = { 0 };
	int r;

	r = store_claim(d->store, self, start_is_dead, self, &current);
	if (r == STORE_E_LED) {
		log_error("another broker leads on %s: pid %d, instance %s, term %llu",
			  d->config->state_dir, (int)current.pid, current.instance,
			  (unsigned long long)current.term);
		return EX_TEMPFAIL;
	}
	if (r != 0)
		return start_store_failed(d, r);
	d->term = self->term;
	(void)snprintf(d->user_id, sizeof(d->user_id), "keybroker:%s", store_install(d->store));
	return 0;
}

int start_state(struct daemon *d)
{
	struct leader self = { 0 };
	int r = start_self(d, &self);

	if (r < 0) {
		log_error("this process cannot describe itself from /proc: %s",
			  strerrordesc_np(-r));
		return EX_OSERR;
	}
	r = d->options->reset_state ? start_set_state_aside(d, &self) : 0;
	r = r ? r : start_keyring(d);
	if (r)
		return r;
	r = store_open(&d->store, d->config->state_dir, d->config->durability, d->keyring);
	return r ? start_store_failed(d, r) : start_claim(d, &self);
}

static int start_listen(struct daemon *d, const char *path, bool admin)
{
	const struct group *group =
		d->config->system_mode && !admin ? getgrnam(START_CLIENTS_GROUP) : NULL;
	bool shared = d->config->system_mode && !admin;
	int fd, r;

	if (shared && !group)
		log_warning("there is no group %s: only root and this user can reach %s",
			    START_CLIENTS_GROUP, path);
	r = socket_listen(path, shared ? 0755 : 0700, group ? 0660 : 0600,
			  group ? group->gr_gid : (gid_t)-1, &fd);
	if (r == SOCKET_E_SERVED) {
		log_error("%s: another broker answers there", path);
		return EX_TEMPFAIL;
	}
	if (r == SOCKET_E_ACCESS)
		return EX_CONFIG;
	if (r < 0) {
		log_error("%s: cannot listen: %s", path, strerrordesc_np(-r));
		return EX_OSERR;
	}
	return server_listen(d->server, fd, admin) == 0 ? 0 : EX_OSERR;
}

int start_sockets(struct daemon *d)
{
	int r;

	/* Both are looked at before either is made: nothing is replaced if it cannot be both. */
	if (socket_is_served(d->config->admin_socket_path)) {
		log_error("%s: another broker answers there", d->config->admin_socket_path);
		return EX_TEMPFAIL;
	}
	r = start_listen(d, d->config->socket_path, false);
	return r ? r : start_listen(d, d->config->admin_socket_path, true);
}
