/* Closes descriptors that somebody else chose: that may last as long as he likes (a file of a FUSE
 * mount that does not answer), so a thread does it. */
#pragma once

#include <stdbool.h>

/* False: too many wait to be closed, so none may be taken on. */
bool discard_has_room(void);

/* Closes `fd`, some time. */
void discard(int fd);
