/* What LiteLLM has counted, for `status --spend`. */
#pragma once

struct value;

/* The reply of `spend`, as a table. */
void spend_print(const struct value *v);
