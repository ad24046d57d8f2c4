/*
 * Verifies exports. A file may hold several, one behind the other, as a log that is appended to
 * does: together they leave no gap, they are of one state, and what two of them have they have
 * alike.
 */
#include "audit/offline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "audit/args.h"
#include "audit/report.h"
#include "base/alloc.h"
#include "base/crypt.h"
#include "base/secret.h"
#include "core/audit_json.h"
#include "io/secret_file.h"

/* A row's texts have less than 1.5 KiB, each byte of them six characters at most. */
#define OFFLINE_LINE_MAX (64 * 1024)

/*
 * The rows that were read, from the one before the first, whose chain value an export begins with:
 * the first bytes of each chain value, which tell two audits apart (each value is a keyed hash, and
 * has been verified).
 */
struct offline_span {
	uint64_t after;
	size_t n, room; /* n: 0 without any, else rows and one */
	uint64_t *marks;
};

struct offline {
	struct args *args;
	struct keyring *keyring;
	struct chain chain; /* of the export that is being read; at its end, of all */
	struct audit_export export;
	bool is_open;		      /* begun, and not ended */
	bool has_ended;		      /* at least one has; */
	bool is_signed;		      /* of these, at least one with this key */
	struct offline_span known;    /* by the exports that have ended, */
	struct audit_export farthest; /* of these */
	struct offline_span read;     /* by the one that is being read */
	unsigned long long line;
	char why[256];
	struct report report;
};

/* The verdict; false, since there is nothing more to read. */
static bool offline_fault(struct offline *o, enum chain_fault fault, uint64_t sequence,
			  const char *why)
{
	o->report.verdict = (struct chain_verdict){ fault, (int64_t)sequence, 0 };
	(void)snprintf(o->why, sizeof(o->why), "%s (line %llu)", why, o->line);
	o->report.why = o->why;
	return false;
}

static uint64_t span_last(const struct offline_span *span)
{
	return span->after + span->n - 1;
}

static uint64_t span_mark(const uint8_t hash[HASH_SIZE])
{
	uint64_t mark;

	memcpy(&mark, hash, sizeof(mark));
	return mark;
}

static void span_add(struct offline_span *span, uint64_t mark)
{
	if (span->n == span->room) {
		span->room = MAX_OF(2 * span->room, (size_t)1024);
		span->marks = xrealloc(span->marks, span->room, sizeof(*span->marks));
	}
	span->marks[span->n++] = mark;
}

/* Takes the rows of one that has ended over; the two have no gap between them. */
static void offline_join(struct offline *o)
{
	struct offline_span *known = &o->known, *read = &o->read;

	if (known->n == 0 || read->after < known->after) {
		struct offline_span earlier = *read;

		*read = *known;
		*known = earlier;
	}
	while (read->n > 0 && span_last(known) < span_last(read))
		span_add(known, read->marks[span_last(known) + 1 - read->after]);
	read->n = 0;
}

/* Is it the row that an export before has under this number, if any has? */
static bool offline_agrees(const struct offline *o, uint64_t sequence,
			   const uint8_t hash[HASH_SIZE])
{
	const struct offline_span *known = &o->known;

	return known->n == 0 || sequence < known->after || sequence > span_last(known) ||
	       known->marks[sequence - known->after] == span_mark(hash);
}

static bool offline_begin(struct offline *o)
{
	const struct audit_export *e = &o->export;
	uint64_t last = o->chain.last;

	if (o->is_open)
		return offline_fault(o, CHAIN_MISSING, last + 1,
				     "it is missing: the export ends before its end");
	if (o->known.n > 0 && e->after > last)
		return offline_fault(o, CHAIN_MISSING, last + 1,
				     "it is missing: the next export begins behind it");
	if (o->known.n > 0 && strcmp(e->install, o->farthest.install) != 0)
		return offline_fault(o, CHAIN_OTHER_HEAD, e->after + 1,
				     "the next export is of another state: verify it alone");
	if (!offline_agrees(o, e->after, e->previous))
		return offline_fault(o, CHAIN_OTHER_HEAD, e->after + 1,
				     "the next export is not of the same audit");
	chain_start(&o->chain, o->keyring, e->after, e->previous);
	chain_expect(&o->chain, o->args->heads, o->args->n_heads);
	o->read.after = e->after;
	span_add(&o->read, span_mark(e->previous));
	o->is_open = true;
	return true;
}

/* What the end says must be what was read, and signed: it also vouches for the beginning. */
static bool offline_end(struct offline *o)
{
	const struct audit_export *e = &o->export;

	if (!o->is_open)
		return offline_fault(o, CHAIN_IMPOSSIBLE, o->chain.last + 1,
				     "an export ends that has not begun");
	if (!audit_export_is_genuine(o->keyring, e))
		return offline_fault(o, CHAIN_FORGED, e->after + 1,
				     "what the export says of its beginning and its end is not "
				     "signed with this audit key");
	if (e->to != o->chain.last || e->rows != o->chain.n_rows ||
	    memcmp(e->hash, o->chain.hash, HASH_SIZE) != 0)
		return offline_fault(o, CHAIN_MISSING, o->chain.last + 1,
				     "it is missing: the export was made with more rows");
	if (o->known.n > 0 && e->to < o->known.after)
		return offline_fault(o, CHAIN_MISSING, e->to + 1,
				     "it is missing: the exports before begin behind it");
	offline_join(o);
	o->is_open = false;
	if (e->to == span_last(&o->known))
		o->farthest = *e;
	else
		chain_skip(&o->chain, o->farthest.to, o->farthest.hash);
	return true;
}

static bool offline_row(struct offline *o, const struct audit_row *row)
{
	bool more;

	if (!o->is_open)
		return offline_fault(o, CHAIN_IMPOSSIBLE, o->chain.last + 1,
				     "a row stands outside of any export");
	more = chain_add(&o->chain, row);
	if (!chain_is_good(&o->chain))
		return more;
	if (!offline_agrees(o, row->sequence, row->hash))
		return offline_fault(o, CHAIN_OTHER_HEAD, row->sequence,
				     "an export before has another row there: they are of two "
				     "audits");
	span_add(&o->read, span_mark(row->hash));
	return true;
}

static bool offline_line(struct offline *o, const char *line, size_t n)
{
	struct audit_row row;
	enum audit_line kind;
	const char *why;

	if (audit_json_parse(line, n, &row, &o->export, &kind, &why) != 0) {
		if (chain_is_good(&o->chain))
			return offline_fault(o, CHAIN_IMPOSSIBLE, o->chain.last + 1, why);
		return false;
	}
	if (kind == AUDIT_LINE_ROW)
		return offline_row(o, &row);
	if (kind == AUDIT_LINE_END) {
		o->has_ended = true;
		o->is_signed |= audit_export_is_genuine(o->keyring, &o->export);
	}
	if (!chain_is_good(&o->chain))
		return false;
	return kind == AUDIT_LINE_BEGIN ? offline_begin(o) : offline_end(o);
}

/* A line with its end, NULs and all; 0 at the end of the file. What is too long is no line of an
 * export, wherever it is cut. */
static size_t offline_get(FILE *f, char *line)
{
	size_t n = 0;
	int c;

	while (n < OFFLINE_LINE_MAX && (c = getc_unlocked(f)) != EOF) {
		line[n++] = (char)c;
		if (c == '\n')
			break;
	}
	return n;
}

/* Nothing has fitted so far: the end may show that the key is another audit's. */
static bool offline_is_lost(const struct offline *o)
{
	return !chain_is_good(&o->chain) && o->chain.n_rows == 0 && o->known.n == 0 &&
	       !o->has_ended && o->report.verdict.fault == CHAIN_GOOD;
}

static int offline_read(struct offline *o, FILE *f)
{
	_cleanup_(freep) char *line = xcalloc(1, OFFLINE_LINE_MAX);
	bool more = true;
	size_t n;

	while (more && (n = offline_get(f, line)) > 0) {
		o->line++;
		more = offline_line(o, line, n) || offline_is_lost(o);
	}
	if (!ferror(f))
		return 0;
	args_say("%s cannot be read: %s", o->args->export_file, strerrordesc_np(errno));
	return EX_IOERR;
}

/* A head from before the first row proves nothing of what is here, and somebody counts on it. */
static void offline_judge_heads(struct offline *o)
{
	const struct args *a = o->args;
	struct report *r = &o->report;

	for (size_t i = 0; i < a->n_heads && r->verdict.fault == CHAIN_GOOD; i++) {
		if (a->heads[i].state != CHAIN_HEAD_OPEN)
			continue;
		r->verdict =
			(struct chain_verdict){ CHAIN_MISSING, (int64_t)a->heads[i].sequence, 0 };
		r->why = "it is missing: no export here goes back to that head, so it could not be "
			 "checked; verify the one that has its row, too";
	}
}

static int offline_judge(struct offline *o)
{
	struct report *r = &o->report;
	bool begun = o->is_open || o->known.n > 0;

	if (r->verdict.fault == CHAIN_GOOD)
		chain_end(&o->chain, &r->verdict);
	if (r->verdict.fault == CHAIN_GOOD && (o->is_open || !begun))
		(void)offline_fault(o, CHAIN_MISSING, o->chain.last + 1,
				    begun ? "it is missing: the export ends before its end"
					  : "there is no export in it");
	r->last = o->chain.last;
	r->first = o->chain.first;
	if (o->known.n > 0 && o->known.after < r->first)
		r->first = o->known.after + 1;
	offline_judge_heads(o);
	r->n_rows = begun ? r->last + 1 - r->first : 0;
	memcpy(r->hash, o->chain.hash, HASH_SIZE);
	if (r->verdict.fault != CHAIN_CHANGED || r->n_rows > 0 || o->is_signed)
		return report_print(o->args, r);
	if (o->has_ended) {
		args_say("%s is not the key of this audit: it fits neither a row nor the signature "
			 "at the end",
			 o->args->key_file);
		return EX_CONFIG;
	}
	args_say("no row fits: is this the audit key of that broker?");
	return report_print(o->args, r);
}

static int offline_key(struct offline *o)
{
	_cleanup_(secret_freep) struct secret *text = NULL, *key = NULL;
	const char *path = o->args->key_file;
	char why[512] = "";
	int r = secret_file_read(path, &text, why);

	if (r > 0) {
		args_say("the audit key is not taken: %s", why);
		return r == SECRET_FILE_E_MISSING ? EX_NOINPUT : EX_CONFIG;
	}
	key = secret_new_empty(AUDIT_KEY_SIZE);
	if (r < 0 || !key)
		return EX_OSERR; /* logged */
	if (crypt_unhex(secret_text(text), secret_bytes(key), AUDIT_KEY_SIZE) < 0) {
		args_say("%s holds no audit key: it must have %d hex digits", path,
			 2 * AUDIT_KEY_SIZE);
		return EX_CONFIG;
	}
	return keyring_new_audit(&o->keyring, key) < 0 ? EX_OSERR : 0;
}

static int offline_open(const struct args *a, FILE **ret)
{
	*ret = strcmp(a->export_file, "-") == 0 ? stdin : fopen(a->export_file, "re");
	int e = errno;

	if (*ret)
		return 0;
	args_say("%s cannot be opened: %s", a->export_file, strerrordesc_np(e));
	return e == EACCES ? EX_NOPERM : EX_NOINPUT;
}

int offline_verify(struct args *a)
{
	struct offline *o = xcalloc(1, sizeof(*o));
	FILE *f = NULL;
	int r;

	o->args = a;
	r = offline_key(o);
	r = r ? r : offline_open(a, &f);
	r = r ? r : offline_read(o, f);
	r = r ? r : offline_judge(o);
	if (f && f != stdin)
		(void)fclose(f); /* only read */
	keyring_free(o->keyring);
	free(o->known.marks);
	free(o->read.marks);
	free(o);
	return r;
}
