/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint that has nothing but keys. Include after check.h. */
#ifndef TESTS_MODEL_MAKE_CONFIG_H
#define TESTS_MODEL_MAKE_CONFIG_H

#include <string.h>

#include "format/fill.h"
#include "format/hf.h"
#include "format/make_files.h"
#include "model/config.h"

/* The keys of base with changes over them; one changed to "(absent)" goes. */
static inline struct checkpoint keys_of(const char *base, const char *changes, const char *generation)
{
    struct checkpoint c = {.path = made_dir, .dir = made_dir};
    struct error err = {0};
    json_t *a = json_loads(base, 0, NULL), *b = json_loads(changes, 0, NULL);
    assert_true(a && b);
    assert_int_equal(json_object_update(a, b), 0);
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(a, next, name, value)
        if (json_is_string(value) && !strcmp(json_string_value(value), "(absent)"))
            json_object_del(a, name);
    assert_int_equal(json_dump_file(a, made("config.json"), 0), 0);
    json_decref(a);
    json_decref(b);
    make_text("generation_config.json", generation);
    if (hf_read_configs(&c, &err) || fill_seal(&c, &err))
        print_error("%s\n", err.text);
    assert_int_equal(err.code, 0);
    return c;
}

#endif
