#pragma once

// The key that cursors are authenticated with.

#include <string>

namespace shoal::gateway {

// Another one each time: cursors hold as long as this process does.
std::string RandomCursorKey();

// That of DIR/cursor.key, which is made first where there is none; so is DIR. Whoever can read the
// file can forge cursors.
// Errors: kInvalidArgument, naming the file, what was expected and what was found: no regular file,
// another owner than this process's user, a mode that lets others read it, another size, a folder
// that cannot be written.
std::string LoadCursorKey(const std::string& folder);

}  // namespace shoal::gateway
