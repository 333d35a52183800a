std = "lua54"
max_line_length = 120
files["spec"] = { std = "+busted" }
files["scripts/templates/spec.lua"] = { std = "+busted" }
exclude_files = { "build" }
