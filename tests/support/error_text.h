#pragma once

#include <string>

#include "ringtrain/core/error.h"

namespace ringtrain {

/// The message of the Error that `body` throws; "no error" if it throws none.
template <typename Body>
std::string error_text(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace ringtrain
