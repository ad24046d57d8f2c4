/* From a request to a config: the order of sources, the places, the keys, the judgement. */
#include "io/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/secret.h"
#include "core/config_build.h"
#include "core/option.h"
#include "core/url.h"
#include "io/config_file.h"
#include "io/config_timing.h"
#include "io/config_units.h"
#include "io/paths.h"
#include "io/secret_file.h"

static void config_load_error(void *userdata, const char *origin, const char *message)
{
	const struct config_request *req = userdata;

	log_error("%s: %s", origin, message);
	if (req->first_error && !req->first_error[0])
		(void)snprintf(req->first_error, CONFIG_ERROR_SIZE, "%s: %s", origin, message);
}

static void config_load_doubt(_unused_ void *userdata, const char *origin, const char *message)
{
	log_warning("%s: %s", origin, message);
}

char *config_file_place(const struct config_request *req)
{
	struct paths paths;
	char *path;

	if (req->config_file)
		return paths_absolute(req->config_file);
	paths_init(&paths, req->system_mode);
	path = TAKE(paths.config_file);
	paths_deinit(&paths);
	return path;
}

static void config_load_flag(const char *name, const char *flag, const char *value,
			     struct config *c, struct config_report *report)
{
	const struct option *o = option_find(SECTION_TOP, name);
	_cleanup_(freep) char *absolute = NULL;
	char why[OPTION_WHY_MAX];

	if (!value)
		return;
	if (o->type == OPTION_PATH && *value)
		absolute = paths_absolute(value);
	if (absolute)
		value = absolute;
	if (option_set(o, &value, 1, c, flag, why))
		config_report_error(report, flag, "%s", why);
}

static void config_load_flags(const struct config_request *req, struct config *c,
			      struct config_report *report)
{
	config_load_flag("socket", "--socket", req->socket, c, report);
	config_load_flag("admin_socket", "--admin-socket", req->admin_socket, c, report);
	config_load_flag("state_dir", "--state-dir", req->state_dir, c, report);
	config_load_flag("log_level", "--log-level", req->log_level, c, report);
	c->instance = xstrdup(req->instance ? req->instance : "main");
}

/* Places that nothing has named. */
static void config_load_places(const struct paths *paths, struct config *c)
{
	c->system_mode = paths->system_mode;
	if (!c->state_dir)
		c->state_dir = xstrdup(paths->state_dir);
	if (!c->socket_path)
		c->socket_path = xstrdup(paths->socket);
	if (!c->admin_socket_path)
		c->admin_socket_path = paths_admin_socket(c->socket_path);
}

/* A key from the environment goes into a header as it is, like one from a file. */
static bool config_load_is_printable(const struct secret *key)
{
	for (const char *at = secret_text(key); *at; at++)
		if (*at <= ' ' || *at > '~')
			return false;
	return true;
}

static int config_load_env_key(const struct config_request *req, struct config *c,
			       struct config_report *report)
{
	const struct secret *key = config_env_master_key(req->env);

	if (!key)
		return 0;
	if (!config_load_is_printable(key))
		config_report_error(report, "LITELLM_MASTER_KEY",
				    "must be printable characters without spaces");
	c->master_key = secret_copy(key);
	c->master_key_source = MASTER_KEY_ENV;
	return c->master_key ? 0 : -ENOMEM;
}

/*
 * The file's key belongs to the file's URL: where LITELLM_BASE_URL names another LiteLLM, it is not
 * to be sent there. True if it was taken out.
 */
static bool config_load_part_key(const char *file_url, struct config *c)
{
	const struct option *key = option_find(SECTION_UPSTREAM, "master_key_file");

	if (!file_url || !c->master_key_file || url_is_same(file_url, c->upstream_url) ||
	    strcmp(option_origin(key, c), key->env[0].variable) == 0)
		return false;
	free(TAKE(c->master_key_file));
	return true;
}

static void config_load_judge_key(const char *file_url, struct config *c,
				  struct config_report *report)
{
	const char *variable = option_find(SECTION_UPSTREAM, "url")->env[0].variable;
	const char *place = option_origin(option_find(SECTION_UPSTREAM, "master_key_file"), c);

	if (c->master_key)
		config_add_warning(c,
				   "%s: the master key file of %s is not used: it is for %s, not "
				   "for %s",
				   variable, place, file_url, c->upstream_url);
	else if (report->n_errors == 0)
		config_report_error(report, variable,
				    "there is no master key for %s: the one of %s is for %s and "
				    "goes nowhere else; set LITELLM_MASTER_KEY_FILE or "
				    "LITELLM_MASTER_KEY, or unset %s",
				    c->upstream_url, place, file_url, variable);
}

/* Credential, file, environment, in this order. A source that is there and cannot be used is an
 * error: falling back to another key would surprise. */
static int config_load_master_key(const struct config_request *req, struct config *c,
				  struct config_report *report)
{
	static const char *const names[] = { "master_key", "litellm-master-key", NULL };
	const char *origin = "CREDENTIALS_DIRECTORY";
	char why[512];
	int r = secret_file_read_credential(names, &c->master_key, why);

	c->master_key_source = MASTER_KEY_CREDENTIAL;
	if (r == SECRET_FILE_E_MISSING && c->master_key_file) {
		origin = option_origin(option_find(SECTION_UPSTREAM, "master_key_file"), c);
		r = secret_file_read(c->master_key_file, &c->master_key, why);
		c->master_key_source = MASTER_KEY_FILE;
	} else if (r == SECRET_FILE_E_MISSING) {
		c->master_key_source = MASTER_KEY_NONE;
		return config_load_env_key(req, c, report);
	}
	if (r > 0)
		config_report_error(report, origin, "the master key is not taken: %s", why);
	else if (r == 0 && config_env_master_key(req->env))
		config_add_warning(c,
				   "LITELLM_MASTER_KEY is not used: the key from %s goes before it",
				   origin);
	return r < 0 ? r : 0;
}

/* The providers' keys of static profiles. */
static int config_load_static_keys(struct config *c, struct config_report *report)
{
	for (size_t i = 0; i < c->n_profiles; i++) {
		struct profile *p = &c->profiles[i];
		char why[512];
		int r;

		if (p->mode != PROFILE_STATIC || !p->key_file || p->static_key)
			continue;
		r = secret_file_read(p->key_file, &p->static_key, why);
		if (r < 0)
			return r;
		if (r)
			config_report_error(
				report, option_origin(option_find(SECTION_PROFILE, "key_file"), p),
				"the key of profile \"%s\" is not taken: %s", p->name, why);
	}
	return 0;
}

static int config_load_all(const struct config_request *req, struct config *c,
			   struct config_report *report)
{
	_cleanup_(freep) char *file = config_file_place(req), *file_url = NULL;
	struct paths paths;
	bool found = false, parted;
	int r;

	paths_init(&paths, req->system_mode);
	config_file_read_all(file, req->config_file != NULL, c, report, &found);
	file_url = xstrdup(c->upstream_url);
	config_env_apply(req->env, req->socket && !req->admin_socket, c, report);
	config_load_flags(req, c, report);
	config_load_places(&paths, c);
	paths_deinit(&paths);
	config_timing_read(req->timing_file, c, report);
	parted = config_load_part_key(file_url, c);
	r = config_load_master_key(req, c, report);
	if (r < 0)
		return r;
	if (parted)
		config_load_judge_key(file_url, c, report);
	config_env_apply_profiles(req->env, req->draft, c, report);
	if (!found)
		config_env_apply_rules(c, report);
	return config_load_static_keys(c, report);
}

/* Who has nothing at all may have expected a file to be read. */
static void config_load_name_file(const struct config_request *req, const struct config *c)
{
	_cleanup_(freep) char *file = config_file_place(req);

	if (c->n_profiles == 0 && access(file, F_OK) < 0)
		log_error("%s: %s; keybrokerd --init writes it", file, strerrordesc_np(errno));
}

int config_load(const struct config_request *req, struct config **ret)
{
	_cleanup_(config_freep) struct config *c = config_new();
	struct config_request mine = *req;
	struct config_report report = { .error = config_load_error, .userdata = &mine };
	struct config_report doubts = { .error = config_load_doubt };
	int r = config_load_all(req, c, &report);

	if (r < 0)
		return r;
	config_finish_profiles(c);
	/* what is missing because a line was bad need not be complained about as well */
	if (report.n_errors == 0)
		config_validate(c, req->draft ? &doubts : &report);
	if (report.n_errors) {
		config_load_name_file(req, c);
		return CONFIG_E_INVALID;
	}
	config_judge(c);
	config_units_judge(c);
	*ret = TAKE(c);
	return 0;
}

void config_warn(const struct config *c, bool reload)
{
	for (size_t i = 0; i < c->n_warnings; i++)
		if (!reload || strncmp(c->warnings[i], CONFIG_ENV_NO_EFFECT,
				       strlen(CONFIG_ENV_NO_EFFECT)) != 0)
			log_warning("%s", c->warnings[i]);
	if (reload && c->master_key_source == MASTER_KEY_ENV)
		log_info(
			"the environment is read at the start only: the master key stays; to change "
			"it, restart, or use LITELLM_MASTER_KEY_FILE");
}
