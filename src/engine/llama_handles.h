// Owning handles for libllama's and ggml's objects.
#pragma once

#include <ggml-backend.h>
#include <llama.h>

#include <memory>

namespace hypura::engine {

struct LlamaDeleter {
    void operator()(llama_model* model) const { llama_model_free(model); }
    void operator()(llama_context* context) const { llama_free(context); }
    void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
    void operator()(ggml_backend_t backend) const { ggml_backend_free(backend); }
    void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
    void operator()(ggml_context* context) const { ggml_free(context); }
};
using ModelHandle = std::unique_ptr<llama_model, LlamaDeleter>;
using BackendHandle = std::unique_ptr<ggml_backend, LlamaDeleter>;
using BufferHandle = std::unique_ptr<ggml_backend_buffer, LlamaDeleter>;
using GgmlContextHandle = std::unique_ptr<ggml_context, LlamaDeleter>;
using SamplerHandle = std::unique_ptr<llama_sampler, LlamaDeleter>;
using ContextHandle = std::unique_ptr<llama_context, LlamaDeleter>;

}  // namespace hypura::engine
