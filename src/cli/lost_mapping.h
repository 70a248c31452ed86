// What the kernel does when mapped bytes cannot be read: in --mode mmap the weights are pages of the model file, and
// where that is truncated, or its disk fails, the program gets SIGBUS in the middle of a computation, to which nothing
// can be returned.
#pragma once

namespace hypura::cli {

// From now on that ends the program with a message that names the file, and with the exit code of a changed model or of
// a failed read. Other reasons for SIGBUS keep their default.
void explain_lost_mappings();

}  // namespace hypura::cli
