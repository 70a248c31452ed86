// The models that can be served: what lies in a folder and what was named on the command line. Listing reads headers,
// never weights, and remembers them by inode, size and modification time.
//
// Names: DIR/qwen3.gguf is "qwen3:latest", DIR/qwen3@8b.gguf is "qwen3:8b", DIR/me/qwen3.gguf is "me/qwen3:latest". A
// split model is named after its first part. Names are matched without regard to case, and ":latest" may be left out.
//
// Thread contract: every function may be called from any thread.
#pragma once

#include "gguf/model_file.h"
#include "gguf/model_shape.h"
#include "server/api_error.h"
#include "server/template_family.h"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace hypura::server {

// What every listing shows of a model; immutable once made.
struct ModelEntry {
    std::string name;  // "qwen3:latest"
    std::string path;  // of the (first) file, links resolved
    std::vector<std::string> part_paths;
    uint64_t size_bytes = 0;
    std::chrono::system_clock::time_point modified;
    std::string digest;  // 64 hex digits: of the header and the files' sizes and times, not of the weights
    std::string files;   // device and inode of each: whether two names are the same model
    gguf::ModelShape shape;
    gguf::Metadata metadata;  // arrays of more than 5 entries are empty here
    uint64_t parameters = 0;
    std::string quantization;  // "Q4_K_M"
    std::string chat_template;
    TemplateFamily family;
    bool embeds_only = false;                // an encoder, or a model that pools
    std::vector<std::string> infill_tokens;  // prefix, suffix, middle: empty when the model has none

    bool supports(std::string_view capability) const;
    std::vector<std::string> capabilities() const;
};
using ModelPointer = std::shared_ptr<const ModelEntry>;

class ModelStore {
public:
    // `folder` may be empty: then only `paths` are served, and nothing can be added or removed.
    ModelStore(std::string folder, std::vector<std::string> paths);

    // Sorted by name; looks at the folder each time. A file that is no model is left out.
    std::vector<ModelPointer> list();
    // 400 for what cannot be a name, 404 when there is no such model.
    ApiResult<ModelPointer> find(std::string_view name);

    // Gives a model a second name: a hard link, so that either may be deleted; a symbolic one for a model that lies
    // outside the folder, which is never deleted. 404: `model "x" not found`; 400 where another model's only name
    // would be overwritten.
    ApiStatus copy(std::string_view source, std::string_view destination);
    // Removes a name, and with the last one the files. 404, or 400 for a model of the command line.
    ApiStatus remove(std::string_view name);
    // Copies the model at `source` (a path or a file:// address) into the folder, with all its parts. `progress` may
    // give up (false): 499, and nothing is left of what was begun.
    ApiResult<ModelPointer> import(const std::string& source,
                                   const std::function<bool(const ModelPointer& model, uint64_t done_bytes)>& progress);

private:
    ModelPointer read(const std::string& file, const std::string& name);
    std::vector<ModelPointer> scan_folder();
    std::string part_file_for(std::string_view name, size_t part, size_t parts) const;
    bool lies_inside(const std::string& path) const;
    bool remove_links(const ModelEntry& model) const;

    std::string folder_;
    std::vector<std::string> paths_;
    std::mutex mutex_;                           // of the cache
    std::map<std::string, ModelPointer> known_;  // by file, inode, size and time
};

// "qwen3" -> "qwen3:latest"; empty for what cannot be a name.
std::optional<std::string> canonical_name(std::string_view name);
// "7.6B", "31.4M"
std::string human_count(uint64_t count);

}  // namespace hypura::server
