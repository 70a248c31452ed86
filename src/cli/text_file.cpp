#include "cli/text_file.h"

#include "base/output_file.h"

#include <span>

namespace hypura::cli {

Status write_text(const std::string& path, const std::string& text) {
    HYPURA_ASSIGN(OutputFile file, OutputFile::create(path));
    HYPURA_TRY(file.write(std::as_bytes(std::span(text))));
    return file.close();
}

}  // namespace hypura::cli
