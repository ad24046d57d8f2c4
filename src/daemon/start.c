/* The steps of a start up to the claim. Each failure says what to do about it. */
#include "daemon/start.h"

#include <errno.h>
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
#include "io/process.h"
#include "io/seal_key.h"
#include "io/store_instance.h"

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
	{ STORE_E_ACCESS, EX_CONFIG, "the state's directory or file cannot be used (see above)" },
	{ STORE_E_CORRUPT, EX_CONFIG,
	  "the state is damaged: restore it, or start over with --reset-state (the old state is kept beside it)" },
	{ STORE_E_MOVED, EX_TEMPFAIL,
	  "a file of the state was removed or replaced while it was open (see above): start again" },
	{ STORE_E_BUSY, EX_TEMPFAIL, "another process holds the state's lock" },
};

int start_store_failed(const struct daemon *d, int r)
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

bool start_is_dead(const struct leader *row, const struct leader *self)
{
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

static bool start_has_state(const char *state_dir)
{
	_cleanup_(freep) char *path = xasprintf("%s/state.db", state_dir);

	return access(path, F_OK) == 0;
}

static const char *const start_files[] = { "state.db", "state.db-wal", "state.db-shm" };

static char *start_aside_path(const struct daemon *d, long long when, size_t file)
{
	return xasprintf("%s/old-%lld-%s", d->config->state_dir, when, start_files[file]);
}

/* A copy that was set aside before is never overwritten, within the same second either. */
static bool start_aside_is_free(const struct daemon *d, long long when)
{
	for (size_t i = 0; i < ARRAY_SIZE(start_files); i++) {
		_cleanup_(freep) char *path = start_aside_path(d, when, i);

		if (access(path, F_OK) == 0)
			return false;
	}
	return true;
}

/* With --reset-state: the old files are set aside, not deleted. */
static int start_set_state_aside(const struct daemon *d, struct leader *self)
{
	long long when = clock_now().wall_ms / 1000;
	struct leader row;

	if (start_has_state(d->config->state_dir) &&
	    store_peek_leader(d->config->state_dir, &row) == 0 &&
	    strcmp(row.boot_id, self->boot_id) == 0 && !start_is_dead(&row, self)) {
		log_error("--reset-state: a broker leads on this state (pid %d); stop it first",
			  (int)row.pid);
		return EX_TEMPFAIL;
	}
	while (!start_aside_is_free(d, when))
		when++;
	for (size_t i = 0; i < ARRAY_SIZE(start_files); i++) {
		_cleanup_(freep) char *from =
			xasprintf("%s/%s", d->config->state_dir, start_files[i]);
		_cleanup_(freep) char *to = start_aside_path(d, when, i);

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

int start_seal_key(bool system_mode, const char *state_dir, struct secret **ret)
{
	_cleanup_(freep) char *path = seal_key_path(system_mode);
	/* Never made anew beside a state that another one sealed: that would hide the loss of the
	 * right one. */
	bool sealed = start_has_state(state_dir);
	int r = seal_key_load(system_mode, !sealed, ret);

	if (r == SEAL_KEY_E_MISSING)
		log_error(
			"%s is missing, but the state in %s is sealed: put the seal key back, or start over with "
			"--reset-state",
			path, state_dir);
	if (r == SEAL_KEY_E_REFUSED && sealed)
		log_error(
			"the state in %s needs its seal key: put it back, or start over with --reset-state",
			state_dir);
	return r;
}

static int start_keyring(struct daemon *d)
{
	_cleanup_(secret_freep) struct secret *seal_key = NULL;
	int r = start_seal_key(d->config->system_mode, d->config->state_dir, &seal_key);

	if (r == 0)
		r = keyring_new(&d->keyring, seal_key);
	return r == 0 ? 0 : EX_CONFIG;
}

void start_tell_of_old_keys(const struct daemon *d)
{
	log_warning(
		"--reset-state: keys of the old state go on working at LiteLLM until the sweep "
		"deletes them, %lld s after this start or later; who holds one must ask again then. "
		"To take one away sooner, delete it at LiteLLM (user id %s). Without an "
		"/etc/machine-id the sweep does not find them: delete them there yourself",
		(long long)d->config->timing.sweep_every_ms / 1000, d->user_id);
}

int start_state(struct daemon *d)
{
	struct leader *self = &d->self;
	int r = start_self(d, self);

	if (r < 0) {
		log_error("this process cannot describe itself from /proc: %s",
			  strerrordesc_np(-r));
		return EX_OSERR;
	}
	d->set_aside = d->options->reset_state && start_has_state(d->config->state_dir);
	r = d->options->reset_state ? start_set_state_aside(d, self) : 0;
	r = r ? r : start_keyring(d);
	if (r)
		return r;
	r = start_store(d);
	return r == 0 || start_may_pass(r) ? 0 : start_store_failed(d, r);
}

bool start_may_pass(int r)
{
	return r == STORE_E_FULL || r == STORE_E_READONLY;
}

int start_store(struct daemon *d)
{
	int r = store_open(&d->store, d->config->state_dir, d->config->durability, d->keyring);

	if (r)
		return r;
	/* First of all: a leader beats only for those it knows. What keeps it from being written
	 * now passes, and is then made up for. */
	r = store_register(d->store, &d->self);
	if (r != 0)
		log_warning("this instance cannot be entered into the state yet: %s",
			    r > 0 ? store_outcome_text((enum store_outcome)r)
				  : strerrordesc_np(-r));
	return 0;
}
