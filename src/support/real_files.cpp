// Nothing else may stand here: a program that defines real_files() itself does not get this file
// from the library.
#include "support/files.h"

namespace mcompress {

FileSystem& real_files() {
  static FileSystem files;
  return files;
}

}  // namespace mcompress
