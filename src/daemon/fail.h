/*
 * Named places at which a testing build can be told to die or stop:
 * KEYBROKER_FAIL="mint.after_post:kill" or "turn.after_commit:kill:3" for the third time that it is
 * reached. A release build has none of this.
 */
#pragma once

#ifdef KEYBROKER_TESTING
void fail_point(const char *name);
/* One name a line on stdout. */
void fail_list(void);
#define FAIL_POINT(name) fail_point(name)
#else
#define FAIL_POINT(name) ((void)0)
#endif
