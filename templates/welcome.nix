# What `nix flake init` says when it has copied a template.
engine: ''
  # A Django project with ${engine}

  Have it in a git repository: Nix takes what git knows, and else the whole folder, data included.

      git init; git add .
      nix develop
      python manage.py dbdev_init
      python manage.py migrate

  The version stands in pyproject.toml, the exact one in dbdev.lock: `python manage.py dbdev_lock`
  writes it. Commit it, and colleagues and CI get the same programs, with Nix or without.
''
