/*
 * `--init`: the effective configuration as a file that explains itself. What is merely a default
 * stands there as a comment. Never holds a key.
 */
#include "io/config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "core/option.h"
#include "io/config_value.h"
#include "io/paths.h"

#define CONFIG_INIT_COLUMNS 92

/* A comment, broken between words. */
static void config_init_comment(FILE *out, const char *indent, const char *text)
{
	while (*text) {
		size_t n = strlen(text);

		if (n > CONFIG_INIT_COLUMNS) {
			n = CONFIG_INIT_COLUMNS;
			while (n > 1 && text[n] != ' ')
				n--;
		}
		fprintf(out, "%s# %.*s\n", indent, (int)n, text);
		text += n;
		text += strspn(text, " ");
	}
}

/* `explain`: with the help, and with a commented line where there is no value. `active`: defaults
 * too are written as values. */
static void config_init_section(FILE *out, enum option_section section, const void *base,
				const char *indent, bool explain, bool active)
{
	for (size_t i = 0; i < option_count(); i++) {
		const struct option *o = option_at(i);
		_cleanup_(freep) char *value = NULL;
		bool written;

		if (o->section != section)
			continue;
		value = config_value_is_synonym(o) ? NULL : config_value_show(o, base);
		written = value && (active || option_was_set(o, base));
		if (explain)
			config_init_comment(out, indent, o->help);
		if (written || explain)
			fprintf(out, "%s%s%s = %s\n", indent, written ? "" : "#", o->name,
				value ? value : o->example);
	}
}

static void config_init_profile(FILE *out, const struct profile *p, bool explain)
{
	fprintf(out, "profile \"%s\" {\n", p->name);
	config_init_section(out, SECTION_PROFILE, p, "\t", explain, true);
	if (p->mode == PROFILE_STATIC && !p->key_file)
		fprintf(out,
			"\t# its key is in OPENAI_API_KEY; key_file would take it from a file\n");
	for (int i = SECTION_KEY; i <= SECTION_TEAM; i++) {
		enum option_section section = (enum option_section)i;

		if (!explain && !config_value_any(section, p))
			continue;
		config_init_comment(out, "\t", option_section_help(section));
		fprintf(out, "\t%s {\n", option_section_name(section));
		config_init_section(out, section, p, "\t\t", explain, true);
		fprintf(out, "\t}\n");
	}
	fprintf(out, "}\n");
}

static void config_init_rules(FILE *out, enum option_section section, const struct rule *rules,
			      size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "%s \"%s\" {\n", option_section_name(section), rules[i].name);
		config_init_section(out, section, &rules[i], "\t", i == 0, true);
		fprintf(out, "}\n");
	}
}

/* Of a section that there is none of. */
static void config_init_example(FILE *out, enum option_section section, const char *name)
{
	fprintf(out, "#%s \"%s\" {\n", option_section_name(section), name);
	for (size_t i = 0; i < option_count(); i++) {
		const struct option *o = option_at(i);

		if (o->section != section)
			continue;
		config_init_comment(out, "", o->help);
		fprintf(out, "#\t%s = %s\n", o->name, o->fallback ? o->fallback : o->example);
	}
	fprintf(out, "#}\n");
}

static void config_init_write(FILE *out, const struct config *c)
{
	fprintf(out,
		"# Keybroker. A line that begins with # is a comment: the default or an example.\n"
		"# Flags and environment variables go before what stands here; conf.d/*.conf\n"
		"# beside this file is read after it: a value or list there replaces one here,\n"
		"# profiles and rules there are added.\n\n");
	config_init_section(out, SECTION_TOP, c, "", true, false);
	for (int i = SECTION_UPSTREAM; i <= SECTION_LIMITS; i++) {
		enum option_section section = (enum option_section)i;

		fprintf(out, "\n");
		config_init_comment(out, "", option_section_help(section));
		fprintf(out, "%s {\n", option_section_name(section));
		config_init_section(out, section, c, "\t", true, false);
		if (section == SECTION_UPSTREAM)
			config_init_comment(
				out, "\t",
				"The key itself never stands in this file: install -m 600 "
				"/dev/null FILE, write it there, name FILE above.");
		fprintf(out, "}\n");
	}
	fprintf(out, "\n");
	config_init_comment(out, "", option_section_help(SECTION_PROFILE));
	for (size_t i = 0; i < c->n_profiles; i++)
		config_init_profile(out, &c->profiles[i], i == 0);
	fprintf(out, "\n");
	config_init_comment(out, "", option_section_help(SECTION_RULE));
	config_init_rules(out, SECTION_RULE, c->rules, c->n_rules);
	fprintf(out, "\n");
	config_init_comment(out, "", option_section_help(SECTION_LISTEN));
	config_init_rules(out, SECTION_LISTEN, c->listens, c->n_listens);
	if (c->n_listens == 0)
		config_init_example(out, SECTION_LISTEN, "web");
}

/* Takes `fd` over. */
static int config_init_fill(int fd, const struct config *c)
{
	FILE *out = fdopen(fd, "w");
	int r = 0;

	if (!out) {
		(void)close(fd); /* the error is fdopen's */
		return err_origin(-errno);
	}
	config_init_write(out, c);
	if (fflush(out) != 0 || fsync(fd) < 0)
		r = err_origin(-errno);
	if (fclose(out) != 0 && r == 0)
		r = err_origin(-errno);
	return r;
}

int config_init_file(const struct config *c, const char *path)
{
	_cleanup_(fd_close) int fd = -1;
	int r = paths_make_dirs(path, c->system_mode ? 0755 : 0700);

	if (r)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 && errno == EEXIST) {
		log_error("%s is there already and stays as it is", path);
		return CONFIG_E_EXISTS;
	}
	if (fd < 0) {
		log_error("%s cannot be made: %s", path, strerrordesc_np(errno));
		return -errno;
	}
	r = config_init_fill(take_fd(&fd), c);
	if (r)
		(void)unlink(path); /* half a file would be in the way of the next try */
	return r;
}
