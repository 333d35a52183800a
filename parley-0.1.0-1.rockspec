rockspec_format = "3.0"
package = "parley"
version = "0.1.0-1"
source = { url = "git+https://example.invalid/parley.git", tag = "v0.1.0" }
description = {
  summary = "Conversations with Claude Code, driven on a pseudo-terminal",
  license = "MIT",
}
dependencies = { "lua >= 5.4, < 5.5", "luv >= 1.44", "argparse >= 0.7" }
build = {
  type = "make",
  build_target = "all",
  install_target = "install",
  install_variables = { PREFIX = "$(PREFIX)", LUADIR = "$(LUADIR)", LIBDIR = "$(LIBDIR)" },
}
