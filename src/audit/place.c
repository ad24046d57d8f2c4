/* Finding the state and its keys. Never makes anything, and never is root where it need not be. */
#include "audit/place.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "audit/exit.h"
#include "base/alloc.h"
#include "base/crypt.h"
#include "base/secret.h"
#include "io/paths.h"
#include "io/seal_key.h"

static const struct {
	int outcome, exit_code;
	const char *text;
} place_outcomes[] = {
	{ -ENOENT, EX_NOINPUT, "there is no state of a broker: name its directory by --state" },
	{ -EACCES, EX_NOPERM, "permission denied: be root or the user that the broker runs as" },
	{ -EPERM, EX_NOPERM, "permission denied: be root or the user that the broker runs as" },
	{ STORE_E_READONLY, EX_NOPERM,
	  "state.db-wal and state.db-shm cannot be made there: copy the directory elsewhere" },
	{ STORE_E_NEWER, EX_CONFIG, "the state was written by a newer version: use its program" },
	{ STORE_E_BUSY, EX_TEMPFAIL, "another process holds the lock of the state: try again" },
	{ STORE_E_CORRUPT, EXIT_BROKEN, "the database is damaged (above)" },
	{ -EPROTO, EXIT_BROKEN, "the database is not as a broker makes it (above)" },
};

int place_failed(const struct place *p, int r)
{
	for (size_t i = 0; i < ARRAY_SIZE(place_outcomes); i++) {
		if (place_outcomes[i].outcome != r)
			continue;
		args_say("%s: %s", p->state_dir, place_outcomes[i].text);
		return place_outcomes[i].exit_code;
	}
	args_say("%s: the state cannot be read: %s", p->state_dir,
		 r < 0 ? strerrordesc_np(-r) : store_outcome_text((enum store_outcome)r));
	return EX_IOERR;
}

/* Where a broker of the user, or of the system, has them. */
static void place_take_paths(struct place *p, bool system_mode)
{
	struct paths paths;

	place_deinit(p);
	paths_init(&paths, system_mode);
	p->state_dir = TAKE(paths.state_dir);
	p->seal_key = seal_key_source(paths.system_mode);
	paths_deinit(&paths);
}

static void place_choose(const struct args *a, struct place *p)
{
	place_take_paths(p, a->system_mode);
	if (!a->state && !a->system_mode && store_view_find(p->state_dir) == -ENOENT) {
		struct place system = { 0 };

		/* no broker of this user: the one of the host is meant */
		place_take_paths(&system, true);
		if (store_view_find(system.state_dir) != -ENOENT)
			place_take_paths(p, true);
		place_deinit(&system);
	}
	if (a->state) {
		free(p->state_dir);
		p->state_dir = xstrdup(a->state);
	}
	if (a->seal_key) {
		free(p->seal_key);
		p->seal_key = xstrdup(a->seal_key);
	}
}

/*
 * Root becomes the owner of the state: what SQLite makes there is then his, and a state that
 * somebody else prepared is read with his rights alone.
 */
static int place_become_owner(const struct place *p)
{
	struct stat st;

	if (geteuid() != 0 || stat(p->state_dir, &st) < 0 || st.st_uid == 0)
		return 0; /* what is not there is complained about when it is opened */
	if (setgroups(0, NULL) < 0 || setresgid(st.st_gid, st.st_gid, st.st_gid) < 0 ||
	    setresuid(st.st_uid, st.st_uid, st.st_uid) < 0) {
		args_say("%s belongs to uid %u, whom this process cannot become: %s", p->state_dir,
			 st.st_uid, strerrordesc_np(errno));
		return EX_NOPERM;
	}
	return 0;
}

int place_find(const struct args *a, struct place *p)
{
	int r;

	*p = (struct place){ 0 };
	place_choose(a, p);
	r = store_view_find(p->state_dir);
	return r < 0 ? place_failed(p, r) : place_become_owner(p);
}

int place_keys(struct place *p)
{
	_cleanup_(secret_freep) struct secret *seal_key = NULL;
	int r = seal_key_read(p->seal_key, &seal_key);

	if (r == 0)
		r = keyring_new(&p->keyring, seal_key);
	if (r == 0)
		return 0;
	args_say("the audit key comes from the seal key, which cannot be had from %s%s: name its "
		 "file by --seal-key",
		 p->seal_key, r == SEAL_KEY_E_MISSING ? " (no such file)" : " (above)");
	return EX_CONFIG;
}

int place_open(struct place *p)
{
	char fingerprint[33], stored[33];
	int r = store_view_open(&p->view, p->state_dir);

	if (r == 0)
		r = store_view_identity(p->view, stored, p->install);
	if (r != 0)
		return place_failed(p, r);
	keyring_fingerprint(p->keyring, fingerprint);
	if (strcmp(fingerprint, stored) == 0)
		return 0;
	args_say("the state in %s was sealed with another key than %s: name its file by --seal-key",
		 p->state_dir, p->seal_key);
	return EX_CONFIG;
}

void place_deinit(struct place *p)
{
	free(p->state_dir);
	free(p->seal_key);
	keyring_free(p->keyring);
	store_view_free(p->view);
	*p = (struct place){ 0 };
}
