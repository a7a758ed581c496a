# Versions, and what a pin asks of them: a prefix ("16", "16.15") or a PEP 440 specifier
# (">=16.13,<17"), by the rules of django_dbdev/pins.py.
let
  # "16.15" -> [ 16 15 ]
  numbers = version: map number (parts "[^0-9]+" version);

  # JSON knows no leading zeros.
  number = digits: builtins.fromJSON (builtins.head (builtins.match "0*([0-9]+)" digits));

  parts =
    separator: text:
    builtins.filter (part: builtins.isString part && part != "") (builtins.split separator text);

  # The first numbers of a list, which goes on with zeros.
  take =
    count: list:
    builtins.genList (i: if i < builtins.length list then builtins.elemAt list i else 0) count;

  longest =
    a: b: if builtins.length a > builtins.length b then builtins.length a else builtins.length b;

  isPrefix = wanted: found: take (builtins.length wanted) found == wanted;

  # Lists are compared one number after the other; [ 16 ] and [ 16 0 ] are equal.
  compare =
    a: b:
    let
      count = longest a b;
      one = take count a;
      other = take count b;
    in
    if one == other then
      0
    else if one < other then
      -1
    else
      1;

  clause =
    requirement: text:
    let
      found = builtins.match " *(~=|===|==|!=|<=|>=|<|>) *([0-9]+(\\.[0-9]+)*)(\\.\\*)? *" text;
      operator = builtins.elemAt found 0;
      wanted = numbers (builtins.elemAt found 1);
      wildcard = builtins.elemAt found 3 != null;
      order = version: compare version wanted;
      tests = {
        "~=" =
          version: order version >= 0 && isPrefix (take (builtins.length wanted - 1) wanted) version;
        "===" = version: version == wanted;
        "==" = version: if wildcard then isPrefix wanted version else order version == 0;
        "!=" = version: !(tests."==" version);
        "<=" = version: order version <= 0;
        ">=" = version: order version >= 0;
        "<" = version: order version < 0;
        ">" = version: order version > 0;
      };
    in
    if found == null then
      throw "django_dbdev: Nix cannot read the version ${builtins.toJSON requirement} in pyproject.toml. It reads prefixes (\"16\") and specifiers of plain numbers (\">=16.13,<17\")."
    else
      tests.${operator};
in
{
  # Whether a version satisfies a requirement; an empty one asks for nothing.
  matches =
    requirement: version:
    let
      found = numbers version;
    in
    if builtins.match " *" requirement != null then
      true
    else if builtins.match " *[0-9]+(\\.[0-9]+)* *" requirement != null then
      isPrefix (numbers requirement) found
    else
      builtins.all (text: clause requirement text found) (parts "," requirement);

  same = a: b: compare (numbers a) (numbers b) == 0;
}
