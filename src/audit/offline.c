/*
 * Verifies exports. A file may hold several, one behind the other, as a log that is appended to
 * does: each must begin where the one before ended, or earlier.
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

struct offline {
	struct args *args;
	struct keyring *keyring;
	struct chain chain; /* of the export that is being read */
	struct audit_export export;
	bool is_open;	/* begun, and not ended */
	bool has_ended; /* at least one */
	bool is_signed; /* of those that have, at least one is with this key */
	bool is_begun;
	uint64_t first; /* of all exports so far */
	uint64_t n_rows;
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

static bool offline_begin(struct offline *o)
{
	const struct audit_export *e = &o->export;
	uint64_t last = o->chain.last;

	if (o->is_open)
		return offline_fault(o, CHAIN_MISSING, last + 1,
				     "it is missing: the export ends before its end");
	if (o->is_begun && e->after > last)
		return offline_fault(o, CHAIN_MISSING, last + 1,
				     "it is missing: the next export begins behind it");
	if (o->is_begun && e->after == last && memcmp(e->previous, o->chain.hash, HASH_SIZE) != 0)
		return offline_fault(o, CHAIN_OTHER_HEAD, last + 1,
				     "the next export is not of the same audit");
	if (!o->is_begun)
		o->first = e->after + 1;
	chain_start(&o->chain, o->keyring, e->after, e->previous);
	chain_expect(&o->chain, o->args->heads, o->args->n_heads);
	o->is_begun = o->is_open = true;
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
	o->n_rows += o->chain.n_rows;
	o->is_open = false;
	return true;
}

static bool offline_row(struct offline *o, const struct audit_row *row)
{
	if (!o->is_open)
		return offline_fault(o, CHAIN_IMPOSSIBLE, o->chain.last + 1,
				     "a row stands outside of any export");
	return chain_add(&o->chain, row);
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

/* Nothing has fitted so far: the end may show that the key is another audit's. */
static bool offline_is_lost(const struct offline *o)
{
	return !chain_is_good(&o->chain) && o->chain.n_rows == 0 && !o->has_ended &&
	       o->report.verdict.fault == CHAIN_GOOD;
}

static int offline_read(struct offline *o, FILE *f)
{
	_cleanup_(freep) char *line = xcalloc(1, OFFLINE_LINE_MAX);
	bool more = true;

	while (more && fgets(line, OFFLINE_LINE_MAX, f)) {
		o->line++;
		more = offline_line(o, line, strlen(line)) || offline_is_lost(o);
	}
	if (!ferror(f))
		return 0;
	args_say("%s cannot be read: %s", o->args->export_file, strerrordesc_np(errno));
	return EX_IOERR;
}

static int offline_judge(struct offline *o)
{
	struct report *r = &o->report;

	if (r->verdict.fault == CHAIN_GOOD)
		chain_end(&o->chain, &r->verdict);
	if (r->verdict.fault == CHAIN_GOOD && (o->is_open || !o->is_begun))
		(void)offline_fault(o, CHAIN_MISSING, o->chain.last + 1,
				    o->is_begun ? "it is missing: the export ends before its end"
						: "there is no export in it");
	if (o->is_open)
		o->n_rows += o->chain.n_rows;
	r->first = o->first;
	r->last = o->chain.last;
	r->n_rows = o->n_rows;
	memcpy(r->hash, o->chain.hash, HASH_SIZE);
	if (r->verdict.fault != CHAIN_CHANGED || o->n_rows > 0 || o->is_signed)
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
	free(o);
	return r;
}
