// A folder of recorded /proc and /sys files that stands in for a machine.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace hypura::hardware {

class RecordedTree {
public:
    RecordedTree() {
        std::string pattern = (std::filesystem::temp_directory_path() / "hypura-tree-XXXXXX").string();
        root_ = ::mkdtemp(pattern.data());
    }
    RecordedTree(const RecordedTree&) = delete;
    RecordedTree& operator=(const RecordedTree&) = delete;
    ~RecordedTree() { std::filesystem::remove_all(root_); }

    RecordedTree& add(std::string_view path, std::string_view text) {
        const std::filesystem::path full = root_ + std::string(path);
        std::filesystem::create_directories(full.parent_path());
        std::ofstream(full) << text;
        return *this;
    }

    const std::string& root() const { return root_; }

private:
    std::string root_;
};

}  // namespace hypura::hardware
