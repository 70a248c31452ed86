#include "engine/llama_library.h"

#include <ggml-backend.h>
#include <llama.h>

#include <mutex>

namespace hypura::engine {
namespace {

constexpr size_t kMostComplaintBytes = 4096;

std::mutex complaints_mutex;
std::string complaints;

void keep_complaint(ggml_log_level level, const char* text, void*) {
    const std::scoped_lock lock(complaints_mutex);
    if (level == GGML_LOG_LEVEL_ERROR && complaints.size() < kMostComplaintBytes) complaints += text;
}

}  // namespace

void start_llama() {
    static std::once_flag once;
    std::call_once(once, [] {
        llama_log_set(keep_complaint, nullptr);
        ggml_backend_load_all();
        llama_backend_init();
    });
}

std::string take_llama_complaints() {
    const std::scoped_lock lock(complaints_mutex);
    std::string taken = std::move(complaints);
    complaints.clear();
    while (!taken.empty() && taken.back() == '\n') taken.pop_back();
    return taken;
}

}  // namespace hypura::engine
