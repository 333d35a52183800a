local helper = require "spec.helper"
local markdown = require "parley.command.chat.markdown"

--- Shows lines with their styles as tags.
local function show(text)
  local shown = markdown.new(function(style, part)
    return part == "" and "" or ("<%s>%s</>"):format(style, part)
  end)
  local lines = {}
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do table.insert(lines, shown:line(line)) end
  return table.concat(lines, "\n")
end

describe("Markdown in a chat", function()
  for given, expected in pairs {
    ["plain text, 2 * 3 * 4, a_b_c"] = "plain text, 2 * 3 * 4, a_b_c",
    ["**one** and **two words**."] = "<bold>one</> and <bold>two words</>.",
    ["** not ** and **open"] = "** not ** and **open",
    ["a ** b **c**"] = "a ** b <bold>c</>",
    ["`a ** b **` `` x`y ``"] = "<cyan>a ** b **</> <cyan>x`y</>",
    ["**see `x`**"] = "<bold>see </><cyan>x</>",
    ["**`x`**: y"] = "<cyan>x</>: y",
    ["**a** b **c"] = "<bold>a</> b **c",
    ["a ` lone one"] = "a ` lone one",
    ["# Head `x` #"] = "<bold>Head </><cyan>x</>",
    ["#hash, ####### seven"] = "#hash, ####### seven",
    ["- one\n  * two **b**\n+ three"] = "• one\n  • two <bold>b</>\n• three",
    ["---\n* * *\n-5 degrees"] = "---\n* * *\n-5 degrees",
    ["1. first\n> quoted\n| a | b |"] = "1. first\n> quoted\n| a | b |",
    ["```c\nint **p; # - `x`\n\n```\n- x"] = "<dim>```c</>\n<cyan>int **p; # - `x`</>\n\n<dim>```</>\n• x",
    ["````\n```\n````\nout"] = "<dim>````</>\n<cyan>```</>\n<dim>````</>\nout",
    ["~~~\n```\n~~~\nout"] = "<dim>~~~</>\n<cyan>```</>\n<dim>~~~</>\nout",
    ["```lua"] = "<dim>```lua</>",
    ["한글 **굵게** 🙂"] = "한글 <bold>굵게</> 🙂",
    [""] = "",
  } do
    it(("shows %q"):format(given), function() assert.equal(expected, show(given)) end)
  end

  for _, line in ipairs { "**a ", " #", "- ", "`a ``b ", "a` ``", "# ", "*", "``` " } do
    it(("shows a line of many %q soon"):format(line), function()
      helper.in_linear_time(show, line:rep(100000) .. "x")
      helper.in_linear_time(show, "# " .. line:rep(100000))
    end)
  end
end)
