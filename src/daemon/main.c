/* keybrokerd: reads its command line and configuration, then does what was asked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/alloc.h"
#include "base/crypt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/options.h"
#include "daemon/start.h"
#include "io/config.h"
#include "io/paths.h"
#include "io/seal_key.h"

/* What the file cannot hold or does not have: with it alone the daemon would not start. */
static void main_say_missing(const struct config *c)
{
	bool needs_upstream = c->n_profiles == 0;

	for (size_t i = 0; i < c->n_profiles; i++)
		needs_upstream = needs_upstream || c->profiles[i].mode != PROFILE_STATIC;
	if (!c->upstream_url && needs_upstream)
		printf("Still missing: url and master_key_file in its section upstream { }.\n");
	else if (c->upstream_url && !c->master_key_file &&
		 c->master_key_source != MASTER_KEY_CREDENTIAL)
		printf("Still missing: the master key, which %s. Put it into a file of mode 0600 "
		       "(umask 077; cat > FILE) and name that by master_key_file in upstream "
		       "{ }%s.\n",
		       c->master_key ? "never stands in that file" : "is not set",
		       c->master_key ? ", or set LITELLM_MASTER_KEY at each start" : "");
	for (size_t i = 0; i < c->n_profiles; i++)
		if (c->profiles[i].mode == PROFILE_STATIC && !c->profiles[i].key_file)
			printf("Still missing: the key of profile \"%s\". Name a file of mode 0600 "
			       "by its key_file, or set OPENAI_API_KEY at each start.\n",
			       c->profiles[i].name);
}

static int main_init(const struct options *o, const struct config *config)
{
	_cleanup_(freep) char *path = config_file_place(&o->request);
	int r = config_init_file(config, path);

	if (r != 0)
		return EX_CANTCREAT; /* the log says why */
	printf("wrote %s\n", path);
	main_say_missing(config);
	return EX_OK;
}

/* A unit does this at each start: a key that was lost must not be replaced beside what it sealed.
 */
static int main_init_seal(const struct options *o)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	_cleanup_(freep) char *path = seal_key_path(o->request.system_mode), *state = NULL;
	struct paths paths;
	int r;

	paths_init(&paths, o->request.system_mode);
	state = xstrdup(o->request.state_dir ? o->request.state_dir : paths.state_dir);
	paths_deinit(&paths);
	r = start_seal_key(o->request.system_mode, state, &key);
	if (r > 0)
		return EX_CONFIG;
	if (r < 0)
		return EX_CANTCREAT;
	printf("the seal key is in %s\n", path);
	return EX_OK;
}

static int main_act(const struct options *o)
{
	struct config *config = NULL;
	int r;

	if (o->action == OPTIONS_INIT_SEAL)
		return main_init_seal(o);
	if (config_load(&o->request, &config) != 0)
		return EX_CONFIG;
	log_set_level(config->log_level);
	switch (o->action) {
	case OPTIONS_RUN:
		return daemon_run(o, config); /* frees it */
	case OPTIONS_CHECK:
		config_show(stdout, config);
		r = EX_OK;
		break;
	case OPTIONS_INIT:
		r = main_init(o, config);
		break;
	case OPTIONS_INIT_SEAL:
	case OPTIONS_LIST_FAIL_POINTS:
		r = EX_SOFTWARE; /* done before */
		break;
	}
	config_free(config);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	_cleanup_(config_env_freep) struct config_env *env = NULL;
	int r = config_env_new(&env);

	config_env_scrub(); /* before anything else could fork, log or dump */
	if (r < 0 || crypt_init() < 0) {
		log_error("cannot start: %s", strerrordesc_np(r < 0 ? -r : ENOSYS));
		return EX_OSERR;
	}
	json_init();
	r = options_parse(argc, argv, &o);
	if (r != 0)
		return r == OPTIONS_E_DONE ? EX_OK : EX_USAGE;
	o.request.env = env;
#ifdef KEYBROKER_TESTING
	if (o.action == OPTIONS_LIST_FAIL_POINTS) {
		fail_list();
		return EX_OK;
	}
#endif
	return main_act(&o);
}
