/*
 * Exports a state. What is broken is exported as it stands, since it is evidence, but the end that
 * vouches for an export is left out then.
 */
#include "audit/export.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "audit/args.h"
#include "audit/exit.h"
#include "audit/place.h"
#include "audit/walk.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "core/audit_json.h"

/* One line; the stream keeps its error for the end. */
static void export_write(struct buf *line)
{
	(void)fwrite(line->data, 1, line->len, stdout);
	line->len = 0;
}

static int export_no_memory(void)
{
	args_say("out of memory");
	return EX_OSERR;
}

static int export_row(const struct audit_row *row, void *userdata)
{
	struct buf *line = userdata;

	if (audit_json_row(row, line) < 0)
		return export_no_memory();
	export_write(line);
	/* a full disk or a closed pipe: not a million rows more */
	return ferror(stdout) ? EX_IOERR : 0;
}

/* On the disk if it is a file: the broker may let go of what was exported. */
static int export_flush(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout) &&
	    (fsync(STDOUT_FILENO) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP))
		return 0;
	args_say("stdout cannot be written: %s", strerrordesc_np(errno));
	return EX_IOERR;
}

/* Was all of it there and right? */
static int export_judge(const struct walk *w, int64_t to)
{
	struct chain_verdict v;
	char why[CHAIN_TEXT_MAX];

	if (w->was_overtaken) {
		args_say("rows were pruned before they could be exported: export again");
		return EX_TEMPFAIL;
	}
	memcpy(&v, &w->chain.verdict, sizeof(v));
	if (w->is_forged) {
		args_say("BROKEN: the checkpoint at %llu is not signed with this state's audit key",
			 (unsigned long long)w->forged);
		return EXIT_BROKEN;
	}
	if (v.fault == CHAIN_GOOD && (int64_t)w->chain.last < to)
		v = (struct chain_verdict){ CHAIN_MISSING, (int64_t)w->chain.last + 1, to };
	if (v.fault == CHAIN_GOOD)
		return 0;
	chain_text(&v, why);
	args_say("BROKEN at row %lld: %s; the rows are exported as they stand, without an end",
		 (long long)v.sequence, why);
	return EXIT_BROKEN;
}

static int export_end(const struct walk *w, const struct place *p, struct audit_export *e,
		      struct buf *line)
{
	e->to = w->chain.last;
	e->rows = w->chain.n_rows;
	memcpy(e->hash, w->chain.hash, HASH_SIZE);
	audit_export_sign(p->keyring, e);
	if (audit_json_end(e, line) < 0)
		return export_no_memory();
	export_write(line);
	return export_flush();
}

static int export_walk(struct walk *w, const struct args *a, const struct place *p, int64_t to)
{
	_cleanup_(buf_deinit) struct buf line = BUF_INIT(0);
	struct audit_export e = { .exported_at_ms = clock_now().wall_ms, .after = w->chain.last };
	int r;

	memcpy(e.install, p->install, sizeof(p->install));
	memcpy(e.previous, w->chain.hash, HASH_SIZE);
	if (audit_json_begin(&e, &line) < 0)
		return export_no_memory();
	export_write(&line);
	r = w->is_forged ? 0 : walk_run(w, p, to, export_row, &line);
	if (r == 0)
		r = export_judge(w, to);
	if (r != 0) {
		(void)export_flush(); /* the failure that came first is the one to tell of */
		return r;
	}
	r = export_end(w, p, &e, &line);
	if (r == 0 && !a->quiet)
		args_say("exported rows %llu to %llu, %llu in all", (unsigned long long)e.after + 1,
			 (unsigned long long)e.to, (unsigned long long)e.rows);
	return r;
}

static int export_range(const struct args *a, const struct place *p)
{
	struct walk *w;
	int64_t last, to;
	int r = store_view_last(p->view, &last);

	if (r != 0)
		return place_failed(p, r);
	to = a->to ? a->to : last;
	w = xcalloc(1, sizeof(*w));
	r = a->from > 1 ? walk_begin_after(w, p, (uint64_t)a->from - 1) : walk_begin(w, p, NULL, 0);
	if (r == 0 && to <= (int64_t)w->chain.last) {
		args_say("there is nothing to export: the rows go from %llu to %lld",
			 (unsigned long long)w->checkpoint.sequence + 1, (long long)last);
		r = EX_USAGE;
	}
	r = r ? r : export_walk(w, a, p, to);
	free(w);
	return r;
}

int export_state(const struct args *a)
{
	struct place p;
	int r = place_find(a, &p);

	r = r ? r : place_keys(&p);
	r = r ? r : place_open(&p);
	r = r ? r : export_range(a, &p);
	place_deinit(&p);
	return r;
}
