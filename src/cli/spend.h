/* What LiteLLM has counted, for `status --spend`. */
#pragma once

struct pages_kept;

/* The replies of `spend`, as a table. */
void spend_print(const struct pages_kept *pages);
