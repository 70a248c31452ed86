// Opening an engine from flags, with a progress bar: what `run`, `logits` and others begin with.
#pragma once

#include "cli/command.h"
#include "cli/options.h"

namespace hypura::cli {

Result<std::unique_ptr<engine::Engine>> open_engine(const Environment& environment, const EngineFlags& flags);

}  // namespace hypura::cli
