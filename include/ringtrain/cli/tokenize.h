#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace ringtrain {

/// `ringtrain tokenize`: shows the ids of --text and decodes them, decodes --ids, or counts the
/// tokens of the file --input. `arguments` are those after the subcommand; results go to `out`,
/// warnings to `err`, and so does a progress bar where `err_is_terminal`. Returns the exit code.
/// Errors: InvalidArgument for the arguments and for ids outside the vocabulary; IoError.
int tokenize(const std::vector<std::string>& arguments, std::FILE* out, std::FILE* err,
             bool err_is_terminal);

}  // namespace ringtrain
