// Exit codes of the program, one for each kind of error, so that scripts can tell them apart. docs/hypura.1 lists them:
// a code never changes its meaning between versions.
#pragma once

#include "base/status.h"

namespace hypura::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitInternal = 1;

int exit_code(ErrorCode code);
int exit_code(const Error& error);  // finer for model files

}  // namespace hypura::cli
