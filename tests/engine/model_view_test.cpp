#include "engine/model_view.h"

#include "base/unique_fd.h"
#include "engine/mmap_hook.h"
#include "support/temp_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

namespace hypura::engine {
namespace {

UniqueFd open_file(const std::string& path) { return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

void* map(const UniqueFd& file, size_t bytes) { return ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.get(), 0); }

TEST(MmapHook, AnswersTheNextMappingOfARegisteredFileOnly) {
    const test::TempDir dir;
    const UniqueFd registered = open_file(dir.write("registered", std::string(4096, 'r')));
    const UniqueFd again = open_file(dir.file("registered"));
    const UniqueFd other = open_file(dir.write("other", std::string(4096, 'o')));
    auto memory = MemoryRegion::reserve(4096).value();
    const std::byte* const ours = memory.data();
    answer_mapping_with(registered.get(), std::move(memory));

    void* const of_other = map(other, 4096);
    EXPECT_EQ(*static_cast<char*>(of_other), 'o');
    void* const answered = map(again, 4096);  // another descriptor of the same file
    EXPECT_EQ(answered, ours);
    EXPECT_EQ(*static_cast<char*>(answered), '\0');
    void* const real = map(registered, 4096);
    EXPECT_EQ(*static_cast<char*>(real), 'r');
    for (void* mapped : {of_other, answered, real}) EXPECT_EQ(::munmap(mapped, 4096), 0);
}

TEST(MmapHook, AForgottenFileIsMappedByTheKernel) {
    const test::TempDir dir;
    const UniqueFd file = open_file(dir.write("file", std::string(4096, 'f')));
    answer_mapping_with(file.get(), MemoryRegion::reserve(4096).value());
    forget_mapping(file.get());
    forget_mapping(file.get());
    void* const mapped = map(file, 4096);
    EXPECT_EQ(*static_cast<char*>(mapped), 'f');
    EXPECT_EQ(::munmap(mapped, 4096), 0);
}

TEST(ModelView, HasTheHeaderOfTheModelAndMemoryForItsTensors) {
    const auto model = gguf::open_model(HYPURA_DEMO_MODEL).value();
    const gguf::Part& part = model.parts.front();
    const auto view = ModelView::create(model).value();
    ASSERT_EQ(view.paths().size(), 1u);
    const UniqueFd file = open_file(view.paths()[0]);
    struct stat status{};
    ASSERT_EQ(::fstat(file.get(), &status), 0);
    EXPECT_EQ(static_cast<uint64_t>(status.st_size), part.size_bytes);
    EXPECT_LT(static_cast<uint64_t>(status.st_blocks) * 512, part.data_offset + 2 * 4096);  // the rest is a hole

    std::string header(part.data_offset, '\0');
    ASSERT_EQ(::pread(file.get(), header.data(), header.size(), 0), static_cast<ssize_t>(header.size()));
    EXPECT_TRUE(header == test::read_file(part.path).substr(0, header.size()));

    void* const mapped = map(file, part.size_bytes);
    EXPECT_EQ(mapped, view.part_memory(0));
    EXPECT_EQ(::munmap(mapped, part.size_bytes), 0);
}

TEST(ModelView, UnmappedViewsLeaveNothingBehind) {
    const auto model = gguf::open_model(HYPURA_DEMO_MODEL).value();
    for (int round = 0; round < 3; ++round) EXPECT_TRUE(ModelView::create(model));
}

}  // namespace
}  // namespace hypura::engine
