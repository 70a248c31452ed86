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

void on_ggml_abort(void (*handler)(const char* reason)) { ggml_set_abort_callback(handler); }

BackendHandle start_backend(ggml_backend_dev_t device, uint32_t threads) {
    BackendHandle backend(ggml_backend_dev_init(device, nullptr));
    if (backend == nullptr) return backend;
    void* const address =
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_set_n_threads");
    if (address != nullptr)
        reinterpret_cast<ggml_backend_set_n_threads_t>(address)(backend.get(), static_cast<int>(threads));
    return backend;
}

std::string take_llama_complaints() {
    const std::scoped_lock lock(complaints_mutex);
    std::string taken = std::move(complaints);
    complaints.clear();
    while (!taken.empty() && taken.back() == '\n') taken.pop_back();
    return taken;
}

}  // namespace hypura::engine
