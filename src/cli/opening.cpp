#include "cli/opening.h"

#include "cli/console.h"

namespace hypura::cli {

Result<std::unique_ptr<engine::Engine>> open_engine(const Environment& environment, const EngineFlags& flags) {
    HYPURA_ASSIGN(engine::EngineOptions options, to_engine_options(flags));
    ProgressBar bar(environment, "loading", ProgressUnit::kBytes);
    options.on_load = [&bar](const engine::LoadProgress& progress) {
        bar.update(progress.done_bytes, progress.total_bytes);
    };
    return engine::Engine::open(options);
}

}  // namespace hypura::cli
