/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON schema as a grammar (GBNF) whose texts are all valid against it. The reverse does not hold: properties come in the order of the schema, white space is bounded,
   objects with properties get no others unless additionalProperties asks for them, numbers have at most 16 digits and exponents two. What would have to be left out of
   account is refused by name instead; the keywords are a table in json_schema_merge.c. Keys of an object that the schema leaves open may come twice: no grammar can know. */
#ifndef TEXT_JSON_SCHEMA_H
#define TEXT_JSON_SCHEMA_H

#include "base/bytes.h"
#include "base/error.h"

enum { JSON_SCHEMA_MAX = 1 << 20 /* bytes */ };

#define JSON_SCHEMA_ANY_OBJECT "{\"type\": \"object\"}" /* the schema of json_object */

/* name: for messages. Returns the grammar's text, which the caller frees; NULL: ERR_DATA with the place in the schema. */
char *json_schema_to_gbnf(const char *name, struct bytes schema, struct error *err);

#endif
