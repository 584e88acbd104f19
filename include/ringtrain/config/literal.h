#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace ringtrain {

/// Reads a Python or JSON literal, as in `--update_llama_config="dict(a=1,b='x',c=dict(d=None))"`:
/// dict(name=value, ...), {'name': value, ...}, [value, ...], strings in either quote, numbers,
/// True, False, None and their JSON spellings. Nothing is evaluated.
///
/// Errors: InvalidArgument with the place in the text and what was expected there; also for a name
/// that is given twice.
nlohmann::ordered_json parse_literal(std::string_view text);

}  // namespace ringtrain
