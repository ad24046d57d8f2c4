/* What a line of an export says is what the row was, to the last byte; and nothing more. */
#include "test_audit_key.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "core/audit_json.h"

static struct audit_row test_row(void)
{
	struct audit_row row;

	audit_init(&row);
	row.sequence = 7;
	memset(row.hash, 0xa5, HASH_SIZE);
	row.wall_ms = -1;
	row.boot_ms = INT64_MAX;
	row.term = 3;
	row.uid = 4294967294;
	row.start_time = 12;
	(void)snprintf(row.instance, sizeof(row.instance), "main");
	(void)snprintf(row.event, sizeof(row.event), "acquire");
	(void)snprintf(row.outcome, sizeof(row.outcome), "ok");
	(void)snprintf(row.unit, sizeof(row.unit), "ö.service");
	(void)snprintf(row.exe, sizeof(row.exe),
		       "/tmp/\xff\xfe"
		       "x");
	(void)snprintf(row.key_tag, sizeof(row.key_tag), "00112233445566778899aabbccddeeff");
	(void)snprintf(row.detail, sizeof(row.detail), "a \"b\" \\ \n \001 \177 c");
	return row;
}

static const char *test_line(const struct audit_row *row, struct buf *b)
{
	assert_int_equal(audit_json_row(row, b), 0);
	return buf_text(b);
}

/* -> what was wrong; NULL: nothing. */
static const char *test_parse(const char *line, struct audit_row *row, struct audit_export *e,
			      enum audit_line *kind)
{
	const char *why = NULL;

	return audit_json_parse(line, strlen(line), row, e, kind, &why) == 0 ? NULL : why;
}

static void test_a_row_comes_back(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0), before = BUF_INIT(0), after = BUF_INIT(0);
	struct audit_row row = test_row(), back = { 0 };
	struct audit_export e = { 0 };
	enum audit_line kind = AUDIT_LINE_END;
	const char *line = test_line(&row, &b);

	(void)state;
	assert_true(line[strlen(line) - 1] == '\n' &&
		    strchr(line, '\n') == line + strlen(line) - 1);
	assert_null(test_parse(line, &back, &e, &kind));
	assert_int_equal(kind, AUDIT_LINE_ROW);
	assert_int_equal(audit_encode(&row, &before), 0);
	assert_int_equal(audit_encode(&back, &after), 0);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
	assert_memory_equal(row.hash, back.hash, HASH_SIZE);
	assert_string_equal(row.exe, back.exe);
	assert_non_null(strstr(line, "\"exe_hex\":\"2f746d702ffffe78\""));
	assert_non_null(strstr(line, "\"detail\":\"a \\\"b\\\""));
}

static void test_the_longest_row_fits_its_line(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	struct audit_row row = test_row(), back = { 0 };
	struct audit_export e;
	enum audit_line kind;

	(void)state;
	memset(row.detail, 1, sizeof(row.detail) - 1); /* \u0001 each */
	memset(row.exe, 1, sizeof(row.exe) - 1);
	memset(row.unit, 0xff, sizeof(row.unit) - 1);
	assert_null(test_parse(test_line(&row, &b), &back, &e, &kind));
	assert_string_equal(row.detail, back.detail);
	assert_string_equal(row.unit, back.unit);
}

/* Replaces the first `what` of the line. */
static void test_replace(const char *line, const char *what, const char *with, char ret[8192])
{
	const char *at = strstr(line, what);

	assert_non_null(at);
	(void)snprintf(ret, 8192, "%.*s%s%s", (int)(at - line), line, with, at + strlen(what));
}

static void test_only_an_exports_own_lines_are_taken(void **state)
{
	static const struct {
		const char *what, *with;
	} edits[] = {
		{ "\"sequence\":7,", "" },
		{ "\"sequence\":7,", "\"sequence\":7,\"note\":\"x\"," },
		{ "\"sequence\":7,", "\"sequence\":\"7\"," },
		{ "\"sequence\":7,", "\"sequence\":7.0," },
		{ "\"sequence\":7,", "\"sequence\":7,\"sequence\":7," },
		{ "\"sequence\":7,", "\"sequence\":null," },
		{ "\"detail\":\"", "\"detail\":\"\\u0000" },
		{ "\"detail\":\"", "\"Detail\":\"" },
		{ "\"instance\":\"main\"",
		  "\"instance\":\"mainmainmainmainmainmainmainmainmainmainmainmainmainmainmainmain\"" },
		{ "\"exe_hex\":\"2f", "\"exe_hex\":\"2" },
		{ "\"exe_hex\":\"2f", "\"exe_hex\":\"00" },
		{ "\"exe_hex\":\"2f", "\"exe_hex\":\"zz" },
		{ "\"hash\":\"a5", "\"hash\":\"a" },
		{ "\"hash\":\"a5", "\"hash\":\"a5a5" },
		{ "{", "[" },
		{ "{", "" },
	};
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	struct audit_row row = test_row(), back;
	const char *line = test_line(&row, &b);
	struct audit_export e;
	enum audit_line kind;
	char edited[8192];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
		test_replace(line, edits[i].what, edits[i].with, edited);
		assert_non_null(test_parse(edited, &back, &e, &kind));
	}
	assert_non_null(test_parse("", &back, &e, &kind));
	assert_non_null(test_parse("{}", &back, &e, &kind));
	assert_non_null(test_parse("{\"keybroker_audit\":2}", &back, &e, &kind));
	assert_non_null(test_parse("{\"keybroker_audit_end\":1}", &back, &e, &kind));
}

static void test_the_end_vouches_for_the_beginning(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1),
						*other = test_keyring_of(2);
	_cleanup_(buf_deinit) struct buf begin = BUF_INIT(0), end = BUF_INIT(0);
	struct audit_export e = { .install = "abc",
				  .after = 4,
				  .previous = { 1 },
				  .exported_at_ms = 5,
				  .to = 9,
				  .rows = 5,
				  .hash = { 2 } },
			    back = { 0 };
	char line[8192];
	enum audit_line kind;

	(void)state;
	audit_export_sign(k, &e);
	assert_int_equal(audit_json_begin(&e, &begin), 0);
	assert_int_equal(audit_json_end(&e, &end), 0);
	assert_null(test_parse(buf_text(&begin), NULL, &back, &kind));
	assert_int_equal(kind, AUDIT_LINE_BEGIN);
	assert_null(test_parse(buf_text(&end), NULL, &back, &kind));
	assert_int_equal(kind, AUDIT_LINE_END);
	assert_true(audit_export_is_genuine(k, &back));
	assert_false(audit_export_is_genuine(other, &back));

	static const struct {
		const char *what, *with;
	} edits[] = { { "\"install\":\"abc\"", "\"install\":\"abd\"" },
		      { "\"after\":4", "\"after\":3" },
		      { "\"previous\":\"01", "\"previous\":\"02" },
		      { "\"exported_at_ms\":5", "\"exported_at_ms\":6" } };
	for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
		struct audit_export edited = back;

		test_replace(buf_text(&begin), edits[i].what, edits[i].with, line);
		assert_null(test_parse(line, NULL, &edited, &kind));
		assert_false(audit_export_is_genuine(k, &edited));
	}
	back.to++;
	assert_false(audit_export_is_genuine(k, &back));
	back.to--;
	back.rows++;
	assert_false(audit_export_is_genuine(k, &back));
	back.rows--;
	back.hash[5] ^= 1;
	assert_false(audit_export_is_genuine(k, &back));
}

static int test_init(void **state)
{
	(void)state;
	json_init();
	return crypt_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_row_comes_back),
		cmocka_unit_test(test_the_longest_row_fits_its_line),
		cmocka_unit_test(test_only_an_exports_own_lines_are_taken),
		cmocka_unit_test(test_the_end_vouches_for_the_beginning),
	};

	return cmocka_run_group_tests(tests, test_init, NULL);
}
